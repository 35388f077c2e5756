"""`acme.signum`: every weight moves by the same step, whatever the size of its gradient."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fttool.api import Optimizer, OptimizerContext, OptimizerParts


class Signum(Optimizer):
    """The sign of the gradient's moving average (Bernstein et al. 2018, arXiv 1802.04434).

    m ← momentum·m + (1 − momentum)·g, then θ ← θ − lr·(sign m + weight_decay·θ). Half of Adam's memory: one number per
    parameter. Each weight moves by `lr` in each update, so that the rate is a distance: 1000 updates cannot carry a
    weight further than 1000·lr.
    """

    name: Literal["acme.signum"] = "acme.signum"
    lr: Annotated[float, Field(gt=0, lt=10)] = 5e-6
    """Peak learning rate: the length of a step in each weight; three to ten times smaller than Adam's."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """What is kept of the average per update."""

    def build(self, ctx: OptimizerContext) -> OptimizerParts:
        """Yield the class; rate and weight decay come with the parameter groups."""
        from fttool_acme.signum import SignumOptimizer  # a subclass of torch's, so it is imported here and not above

        return OptimizerParts(optimizer_class=SignumOptimizer, options={"momentum": self.momentum})
