"""PyHessian or curvlinops on a given network, as a benchmark peer.

    python sharpness_torch.py PROBLEM.npz FIGURE --peer pyhessian|curvlinops [--probes M] [--steps K] [--tolerance T]

PROBLEM.npz holds X (n, d), y (n, -1 or +1), and weight_0, bias_0, weight_1, … of a relu network, weights (in, out).
The loss is the mean binary cross-entropy, everything is float32. FIGURE is lambda_max, trace, density or start (which
makes the network and leaves, for its memory). One line of JSON goes to standard output:

    value      lambda_max; or for the trace the value of each probe vector; or for the density nodes and weights of each
    seconds    wall time of the peer's own function, the making of its object included; the median of the repeats,
               after one Hessian product
    products   with the Hessian
    peak_gb    the largest resident set of this process

PyHessian 0.1 asks for torch.eig, which torch no longer has: it is given here in terms of torch.linalg.eigh.
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402


def eig(T, eigenvectors):
    """What torch.eig gave for a symmetric matrix: eigenvalues with a column of imaginary parts, and eigenvectors."""
    values, vectors = torch.linalg.eigh(T)
    return torch.stack([values, torch.zeros_like(values)], dim=1), vectors


torch.eig = eig
import pyhessian  # noqa: E402
from curvlinops import HessianLinearOperator, hutchinson_trace  # noqa: E402
from scipy.sparse.linalg import eigsh  # noqa: E402


def main():
    """Read the problem, compute the figure, print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problem", help="npz file with data and parameters")
    parser.add_argument("figure", choices=["lambda_max", "trace", "density", "start"])
    parser.add_argument("--peer", choices=["pyhessian", "curvlinops"], required=True)
    parser.add_argument("--probes", type=int, default=100)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--tolerance", type=float, default=1e-3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    with np.load(args.problem) as problem:
        model = network(problem)
        X = torch.tensor(problem["X"].reshape(len(problem["X"]), -1), dtype=torch.float32)
        y = torch.tensor((problem["y"] > 0)[:, None], dtype=torch.float32)
    loss = torch.nn.BCEWithLogitsLoss()
    peer = (PyHessian if args.peer == "pyhessian" else Curvlinops)(model, loss, X, y)
    result = {"value": None, "seconds": None}
    if args.figure != "start":
        peer.warm()
        seconds = []
        for _ in range(args.repeats):
            peer.products = 0
            began = time.perf_counter()
            result["value"] = getattr(peer, args.figure)(args)
            seconds.append(time.perf_counter() - began)
        result["seconds"] = statistics.median(seconds)
    print(json.dumps(result | {"products": peer.products, "peak_gb": peak_gb()}))


def network(problem):
    """A relu network with the parameters of the problem."""
    layers = []
    for i in range(sum(name.startswith("weight_") for name in problem)):
        W, b = torch.tensor(problem[f"weight_{i}"]).float(), torch.tensor(problem[f"bias_{i}"]).float()
        layer = torch.nn.Linear(*W.shape)
        layer.weight.data, layer.bias.data = W.T.contiguous(), b.reshape(-1)
        layers += [torch.nn.ReLU()] * (i > 0) + [layer]
    return torch.nn.Sequential(*layers)


def peak_gb():
    """In units of 1e9 bytes, on Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e9


class PyHessian:
    """All examples in one batch, its faster way: the gradient's graph is kept."""

    def __init__(self, model, loss, X, y):
        self.make = lambda: pyhessian.hessian(model, loss, data=(X, y), cuda=False)
        self.products = 0
        module = sys.modules["pyhessian.hessian"]
        product = module.hessian_vector_product

        def counted(*args):
            self.products += 1
            return product(*args)

        module.hessian_vector_product = counted
        self.model = model

    def warm(self):
        """One product."""
        self.make().eigenvalues(maxIter=1)
        self.model.zero_grad()

    def lambda_max(self, args):
        """By power iteration."""
        values, _ = self.make().eigenvalues(maxIter=1000, tol=args.tolerance)
        return values[0]

    def trace(self, args):
        """By Hutchinson's method; with tolerance 0 it takes all probe vectors."""
        return self.make().trace(maxIter=args.probes, tol=args.tolerance)

    def density(self, args):
        """By stochastic Lanczos quadrature."""
        nodes, weights = self.make().density(iter=args.steps, n_v=args.probes)
        return [[list(map(float, part)) for part in parts] for parts in zip(nodes, weights, strict=True)]


class Curvlinops:
    """The Hessian as a linear operator; all examples in one batch."""

    def __init__(self, model, loss, X, y):
        parameters = list(model.parameters())
        self.make = lambda: HessianLinearOperator(model, loss, parameters, [(X, y)], check_deterministic=False)
        self.products = 0

    def warm(self):
        """One product."""
        H = self.make()
        H @ torch.zeros(H.shape[1])

    def lambda_max(self, args):
        """By SciPy's eigsh."""
        H = self.make().to_scipy(dtype=np.float32)
        matvec = H._matvec

        def counted(v):
            self.products += 1
            return matvec(v)

        H._matvec = counted
        v0 = np.random.default_rng(args.seed).standard_normal(H.shape[0]).astype(np.float32)
        return float(eigsh(H, k=1, which="LA", tol=args.tolerance, v0=v0, return_eigenvectors=False)[0])

    def trace(self, args):
        """By Hutchinson's method, one probe vector at a time, so that each has a value."""
        H = self.make()
        self.products = args.probes
        return [float(hutchinson_trace(H, num_matvecs=1)) for _ in range(args.probes)]


if __name__ == "__main__":
    main()
