"""GPy's expectation propagation on a given kernel matrix, as a benchmark peer.

    python gpy_ep.py PROBLEM.npz [--link heaviside|probit] [--epsilon E] ...

PROBLEM.npz holds K (n x n, float64, the prior covariance) and labels (n, -1 or
+1).  The prior is f ~ N(0, K).  With the link "heaviside" (the noise-free step)
the result approximates log Pr[labels[i] * f[i] > 0 for all i]; with "probit" it
approximates the same quantity for f ~ N(0, K + I).

One line of JSON goes to standard output:

    log_z      EP's approximation of the log evidence
    seconds    wall time of GPy's EP.inference: the sweeps, the evidence, and the
               posterior and gradient in K that it always forms (a few n^3 flops)
    sweeps     passes over all sites
    converged  whether GPy's own stopping rule ended the run
    and the settings: n, link, epsilon, damping, parallel, seed, version

GPy stops after two sweeps at the earliest, once the mean squared changes over a
sweep of the site precisions and of the site precision-times-means are both below
epsilon.  That rule is absolute, so it depends on the scale of K: with the step
link, multiplying K by c leaves log_z alone but divides the site precisions by c.
The evidence is assembled from cavities seen during the last sweep, so stopping
early shows up in log_z.  GPy's default, kept here, is 1e-6; it suits a K with
diagonal near 1.  Sites are visited in a random order, hence the seed.  GPy adds
1e-7 to the diagonal of K in the first sweep only.

The step link needs GPy 1.15: up to 1.14.2 its branch of
Bernoulli.moments_match_ep uses an undefined variable and raises NameError.

The number of threads is set outside, for example OPENBLAS_NUM_THREADS=1.
"""

import argparse
import json
import time

import GPy
import numpy as np
from GPy.inference.latent_function_inference import EP
from GPy.likelihoods import Bernoulli
from GPy.likelihoods.link_functions import Heaviside, Probit
from paramz import ObsAr

LINKS = {"heaviside": Heaviside, "probit": Probit}


class CountingEP(EP):
    """GPy's EP unchanged, but noting the sweeps and how the run ended."""

    sweeps = 0
    converged = False

    def _local_updates(self, *args, **kwargs):
        self.sweeps += 1
        return super()._local_updates(*args, **kwargs)

    def _stop_criteria(self, ga_approx):
        self.converged = bool(super()._stop_criteria(ga_approx))
        return self.converged


def main():
    """Read the problem, run EP, print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problem", help="npz file with K and labels")
    parser.add_argument("--link", choices=sorted(LINKS), default="heaviside")
    parser.add_argument("--epsilon", type=float, default=1e-6, help="stopping tolerance")
    parser.add_argument("--max-sweeps", type=int, default=200, help="GPy itself sets no limit")
    parser.add_argument("--damping", type=float, default=1.0, help="GPy's delta; 1 is undamped")
    parser.add_argument("--parallel", action="store_true", help="update all sites at once")
    parser.add_argument("--seed", type=int, default=0, help="seed of the site order")
    args = parser.parse_args()

    with np.load(args.problem) as problem:
        K = np.ascontiguousarray(problem["K"], dtype=np.float64)
        labels = problem["labels"].astype(np.float64).reshape(-1)
    n = labels.size
    if K.shape != (n, n) or not np.all(np.abs(labels) == 1):
        parser.error("K must be n x n, and the n labels -1 or +1")

    np.random.seed(args.seed)
    # "nested" runs EP at every call; with one call it equals "alternated".
    ep = CountingEP(
        epsilon=args.epsilon,
        delta=args.damping,
        max_iters=args.max_sweeps,
        ep_mode="nested",
        parallel_updates=args.parallel,
    )
    likelihood = Bernoulli(gp_link=LINKS[args.link]())
    # The moments take -1 as well as 0 for the negative class.  With K given, the
    # kernel object is not used, and of X only the number of rows.
    X, Y = np.zeros((n, 1)), ObsAr(labels[:, None])
    start = time.perf_counter()
    _, log_z, _ = ep.inference(None, X, likelihood, Y, K=K)
    seconds = time.perf_counter() - start

    print(
        json.dumps(
            {
                "log_z": float(log_z),
                "seconds": seconds,
                "sweeps": ep.sweeps,
                "converged": ep.converged,
                "n": n,
                "link": args.link,
                "epsilon": args.epsilon,
                "damping": args.damping,
                "parallel": args.parallel,
                "seed": args.seed,
                "version": "GPy " + GPy.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
