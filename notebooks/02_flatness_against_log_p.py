# %% [markdown]
# # Flatness against log P(f): a small study
#
# Which of them predicts the test error of trained networks? A study trains networks of different generalization,
# computes log P and flatness of each, and reports how well they order the networks by their test accuracy. This is the
# protocol of Zhang, Reid, Valle-Pérez and Louis 2021 (arXiv 2103.06219), on digits and with fewer networks.

# %%
from pathlib import Path

import numpy as np
from IPython.display import Markdown
from matplotlib import pyplot as plt

from nngp_prior import style
from nngp_prior.experiments import read_protocol, run
from nngp_prior.experiments.analysis import sentence, summary, verdicts
from nngp_prior.experiments.report import write_report

style.use()

# %% [markdown]
# ## The protocol
#
# `digits` is one of the package's protocols: three networks for each of five sizes of the attack set. Fields can be
# changed, as in `read_protocol("digits", ["seeds=10"])`.

# %%
protocol = read_protocol("digits")
print(protocol.about.strip())
print("axes:", {name: list(values) for name, values in protocol.axes.items()})

# %% [markdown]
# ## The study
#
# `run` keeps each result on the disk when it is finished, and continues after an interruption. On the command line this
# is `nngp-prior experiment run digits`.

# %%
folder = Path("study")
study = run(protocol, folder)
print(study)

# %% [markdown]
# ## The verdict
#
# Kendall's τ of each quantity with the test accuracy, with intervals: a bootstrap over the sizes of the attack set.
# log P should have a positive sign and sharpness a negative one.

# %%
found = verdicts(study)
print(summary(found))

# %%
for verdict in found:
    print(f"- {sentence(verdict)}")

# %%
accuracy = 1 - study.column("test_error")
figure, axes = plt.subplots(ncols=3, figsize=(10, 3.3), sharey=True)
panels = {"log_p": "log P(f) (nats)", "trace": "trace of the Hessian", "keskar": "Keskar sharpness (%)"}
attack = study.column("attack")
for axis, (name, label) in zip(axes, panels.items(), strict=True):
    tau = next(verdict for verdict in found if verdict.name == name).kendall
    for size, colour in zip(np.unique(attack), style.COLOURS, strict=False):
        of = attack == size
        axis.plot(study.column(name)[of], accuracy[of], "o", ms=5, color=colour, label=f"{size:.0f}")
    axis.set(xlabel=label, title=f"τ = {tau.value:.2f} ({tau.low:.2f} … {tau.high:.2f})")
axes[0].set(ylabel="test accuracy")
axes[0].legend(title="attack set", title_fontsize=8)
figure.tight_layout()
plt.show()

# %% [markdown]
# log P(f) and the trace both follow the size of the attack set, and so does the accuracy: one axis does not separate
# them. The [gallery](../docs/gallery/README.md) has studies over optimizers and batch sizes, in which flatness loses
# most of its correlation with the accuracy and log P(f) keeps it.
#
# ## The report
#
# `write_report` writes the report with all coefficients, figures and a row per network. Its first table:

# %%
write_report(study)
for path in sorted(folder.iterdir()):
    if path.is_file():
        print(path.name)
report = (folder / "report.md").read_text(encoding="utf-8")
Markdown(report[report.index("| quantity |") :].partition("\n\n")[0])
