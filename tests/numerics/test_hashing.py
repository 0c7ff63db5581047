import hashlib

import numpy as np

from nngp_prior.numerics.hashing import digest

X = np.arange(6.0).reshape(2, 3)


def test_digest_is_the_sha256_of_dtype_shape_and_content() -> None:
    assert digest(X) == hashlib.sha256(b"float64 (2, 3)\0" + X.tobytes()).hexdigest()
    assert digest(np.asfortranarray(X)) == digest(X)


def test_other_arrays_have_another_digest() -> None:
    others = [
        (X.T,),
        (X.reshape(3, 2),),
        (X.astype(np.float32),),
        (X.view(np.int64),),
        (X[:1], X[1:]),
        (X, X),
        (-X,),
        (),
    ]
    assert len({digest(*arrays) for arrays in [(X,), *others]}) == 9
