"""What can be done with a subscription on its page, and what AWS does then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import changes

if TYPE_CHECKING:
    from collections.abc import Callable

    from .agreements import Agreement
    from .chains import Action
    from .changes import Change
    from .plans import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was chosen for an action.

    Attributes:
        plan: The name of a plan; empty when none was chosen.
        new_license: Whether the agreement that follows has another license.
    """

    plan: str = ""
    new_license: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ManageAction:
    """Something that can be done with a subscription.

    Attributes:
        name: Its name in forms.
        title: Its name for people.
        effect: What AWS does, in one sentence.
        effect_without_plan: The same for pay as you go, where that differs.
        done: What has happened, in one sentence.
        action: What the ledger calls it.
        change: Makes the change from what was chosen.
        plans: Gives the plans that can be chosen; None when no plan is.
        makes_agreement: Whether another agreement follows, with the same license or a new one.
        is_final: Whether it ends the subscription.
    """

    name: str
    title: str
    effect: str
    effect_without_plan: str = ""
    done: str
    action: Action
    change: Callable[[Choice], Change]
    plans: Callable[[Agreement], tuple[Plan, ...]] | None = None
    makes_agreement: bool = False
    is_final: bool = False

    def effect_on(self, agreement: Agreement) -> str:
        """Say what AWS does with this agreement."""
        return self.effect if agreement.plan else self.effect_without_plan or self.effect

    def plans_for(self, agreement: Agreement) -> tuple[Plan, ...]:
        """Give the plans that can be chosen; empty when there is nothing to choose."""
        return self.plans(agreement) if self.plans else ()

    def is_possible(self, agreement: Agreement) -> bool:
        """Whether it can be done now."""
        plans = self.plans_for(agreement)
        if self.plans and not plans:
            return False
        try:
            self.change(Choice(plan=plans[0].name if plans else ""))(agreement, agreement.updated_at)
        except ValueError:
            return False
        return True


def _all_plans(agreement: Agreement) -> tuple[Plan, ...]:
    return agreement.product.plans


def _other_plans(agreement: Agreement) -> tuple[Plan, ...]:
    return tuple(plan for plan in agreement.product.plans if plan != agreement.plan)


ACTIONS = (
    ManageAction(
        name="prepare",
        title="Finish preparing",
        effect="The license becomes active, and GetEntitlements answers with the plan.",
        done="The license is active.",
        action="prepared",
        change=lambda _: changes.prepare,
    ),
    ManageAction(
        name="change-plan",
        title="Change the plan",
        effect="The agreement and its license stay, and GetEntitlements answers with the new plan.",
        done="The plan was changed.",
        action="plan changed",
        change=lambda choice: changes.change_plan(choice.plan),
        plans=_other_plans,
    ),
    ManageAction(
        name="renew",
        title="Renew",
        effect="The end date comes: the agreement becomes RENEWED, and another one on the same terms follows it.",
        done="The subscription was renewed: this agreement follows the one before.",
        action="renewed",
        change=lambda choice: changes.renew(new_license=choice.new_license),
        makes_agreement=True,
    ),
    ManageAction(
        name="replace",
        title="Replace",
        effect="The buyer accepts another offer: the agreement becomes REPLACED, and one with this plan follows it.",
        done="The agreement was replaced: this one follows it.",
        action="replaced",
        change=lambda choice: changes.replace_by(choice.plan, new_license=choice.new_license),
        plans=_all_plans,
        makes_agreement=True,
    ),
    ManageAction(
        name="suspend",
        title="Suspend",
        effect="AWS suspects a problem with the buyer's account and issues an advisory. No answer of AWS changes.",
        done="AWS has issued an advisory.",
        action="suspended",
        change=lambda _: changes.suspend,
    ),
    ManageAction(
        name="resume",
        title="Resume",
        effect="AWS resolves its advisory. No answer of AWS changes.",
        done="AWS has resolved its advisory.",
        action="resumed",
        change=lambda _: changes.resume,
    ),
    ManageAction(
        name="expire",
        title="Let it expire",
        effect="The end date comes: the agreement becomes EXPIRED and the entitlements stay, with a past end.",
        done="The end date has come, and the agreement has expired.",
        action="expired",
        change=lambda _: changes.expire,
        is_final=True,
    ),
    ManageAction(
        name="cancel",
        title="Cancel",
        effect="The agreement becomes CANCELLED and the entitlements are gone.",
        effect_without_plan="The agreement becomes CANCELLED, which only the Agreement API says.",
        done="The subscription was cancelled.",
        action="cancelled",
        change=lambda _: changes.cancel,
        is_final=True,
    ),
)
"""Everything that can be done, in the order of the page."""


def find_action(name: str) -> ManageAction:
    """Give the action with this name.

    Raises:
        ValueError: There is none; the message names those that there are.
    """
    for action in ACTIONS:
        if action.name == name:
            return action
    raise ValueError(f"There is no action {name!r}. Choose one of {', '.join(each.name for each in ACTIONS)}.")
