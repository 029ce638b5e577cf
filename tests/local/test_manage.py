"""The page of a subscription, by its forms, and what boto3 reads afterwards."""

import re

import httpx2
import pytest

from starlette_marketplace.local import SCENARIOS, Agreement, LocalMarketplace
from tests.local.clients import Aws
from tests.local.pages import TOKEN, Form, Page, open_page
from tests.local.readers import Reader
from tests.local.timers import Timer
from tests.support.servers import serve

STARTER = {"users": 5, "sso": False, "tier": "starter", "storage_tb": 0.5}
TEAM = {"users": 25, "sso": False, "tier": "team", "storage_tb": 2.5}
ENTERPRISE = {"users": 500, "sso": True, "tier": "enterprise", "storage_tb": 40.0}


@pytest.fixture
def agreement(marketplace: LocalMarketplace) -> Agreement:
    return bought(marketplace)


def bought(marketplace: LocalMarketplace, scenario: str = "new-product") -> Agreement:
    return marketplace.buyer.agreements(SCENARIOS[scenario])[0]


def open_manage(url: str, agreement: Agreement) -> Page:
    return open_page(f"{url}/manage?agreement={agreement.id}")


def forms_of(page: Page) -> dict[str | None, Form]:
    return {form.fields["action"]: form for form in page.forms_to("manage")}


def act(url: str, agreement: Agreement, action: str, **chosen: str) -> Page:
    """Press a button of the page, and give the page that is shown then."""
    response = forms_of(open_manage(url, agreement))[action].submit(url, **chosen)
    assert [redirect.status_code for redirect in response.history] == [303]
    return Page(response.raise_for_status().text)


def text_of(page: Page) -> str:
    return " ".join(page.text.split())


def refused(url: str, **fields: str) -> Page:
    """Post what the page offers no more, or never has."""
    response = httpx2.post(f"{url}/manage", data=fields)
    assert response.status_code == 400
    return Page(response.text)


def test_the_page_shows_the_subscription_as_aws_has_it(
    marketplace: LocalMarketplace, url: str, reader: Reader, agreement: Agreement
) -> None:
    text = text_of(open_manage(url, agreement))

    described = reader.describe(agreement.id)
    assert f"Buyer {marketplace.buyer.company} AWS account {agreement.account_id}" in spaced(text)
    assert "Product Acme Analytics, acmeanalytics Pricing Contract" in spaced(text)
    assert f"Agreement {agreement.id} Offer {described['proposalSummary']['offerId']} Status ACTIVE" in spaced(text)
    start, end = (f"{moment:%Y-%m-%d %H:%M:%S} UTC" for moment in (agreement.starts_at, agreement.ends_at))
    assert f"Start {start} End {end} Auto-renews yes License {agreement.short_license}, active" in spaced(text)
    assert "Advisory none Plan Starter Entitlements Dimension Value" in spaced(text)
    assert 'users 5 sso false tier "starter" storage_tb 0.5' in spaced(text)
    assert "Free trial ends" not in text
    assert "chain" not in text


def spaced(text: str) -> str:
    """The text of a table, whose cells touch each other in the source."""
    names = r"Buyer|AWS account|Product|Pricing|Agreement|Offer|Status|Start|End|Auto-renews|Free trial ends|"
    names += r"Customer identifier|License|Advisory|Plan|Dimension|Value|users|sso|tier|storage_tb"
    return " ".join(re.sub(rf"\b({names})(?=[\w\"])", r"\1 ", text).split())


@pytest.mark.parametrize(
    ("scenario", "pricing", "shown"),
    [
        ("new-product", "Contract", "Auto-renews yes"),
        ("free-trial", "Free trial", "Auto-renews no Free trial ends 20"),
        ("legacy-product", "Legacy contract", "License none"),
        ("contract-with-consumption", "Contract with consumption", "Plan Standard"),
        ("pay-as-you-go", "Pay as you go", "End no end Auto-renews no"),
    ],
)
def test_storefront_and_page_show_the_pricing_and_the_page_what_is_special(
    marketplace: LocalMarketplace, url: str, scenario: str, pricing: str, shown: str
) -> None:
    text = spaced(text_of(open_manage(url, bought(marketplace, scenario))))

    assert f"Pricing {pricing} " in text
    assert shown in text
    card = re.search(rf'<article id="{scenario}">(.*?)</article>', httpx2.get(url).text, re.DOTALL)
    assert card
    assert re.search(rf'class="badge"[^>]*>{pricing}<', card[1])
    assert f'href="manage?agreement={bought(marketplace, scenario).id}"' in card[1]


def test_a_legacy_customer_is_shown_by_the_identifier_and_has_no_license_to_choose(
    marketplace: LocalMarketplace, url: str
) -> None:
    agreement = bought(marketplace, "legacy-product")

    page = open_manage(url, agreement)

    assert f"Customer identifier {agreement.customer_identifier} License none" in spaced(text_of(page))
    assert "license" not in forms_of(page)["renew"].fields
    assert "Plan Plus" in spaced(text_of(act(url, agreement, "change-plan", plan="Plus")))


@pytest.mark.parametrize(
    ("scenario", "actions"),
    [
        ("new-product", ["change-plan", "renew", "replace", "suspend", "expire", "cancel"]),
        ("free-trial", ["change-plan", "replace", "suspend", "expire", "cancel"]),
        ("legacy-product", ["change-plan", "renew", "replace", "suspend", "expire", "cancel"]),
        ("pay-as-you-go", ["suspend", "cancel"]),
        ("wrong-product", ["renew", "replace", "suspend", "expire", "cancel"]),
        ("not-yet-entitled", ["prepare", "change-plan", "renew", "replace", "suspend", "expire", "cancel"]),
    ],
)
def test_only_what_is_possible_is_offered(
    marketplace: LocalMarketplace, url: str, scenario: str, actions: list[str]
) -> None:
    assert list(forms_of(open_manage(url, bought(marketplace, scenario)))) == actions


def test_the_plan_can_be_changed_to_one_of_the_others(
    marketplace: LocalMarketplace, url: str, reader: Reader, agreement: Agreement
) -> None:
    assert re.findall(r'"plan" value="(\w+)"', html_of(url, agreement, "change-plan")) == ["Team", "Enterprise"]

    page = act(url, agreement, "change-plan", plan="Enterprise")

    assert "The plan was changed." in page.text
    assert reader.entitled(agreement) == ENTERPRISE
    assert reader.describe(agreement.id)["status"] == "ACTIVE"
    assert "Plan Enterprise" in spaced(text_of(page))


def html_of(url: str, agreement: Agreement, action: str) -> str:
    html = httpx2.get(f"{url}/manage?agreement={agreement.id}").text
    (form,) = re.findall(rf'<form [^>]*id="{action}".*?</form>', html, re.DOTALL)
    assert isinstance(form, str)
    return form


@pytest.mark.parametrize("license_choice", ["same", "new"])
@pytest.mark.parametrize(("action", "status"), [("renew", "RENEWED"), ("replace", "REPLACED")])
def test_another_agreement_follows_and_its_page_is_shown_with_the_whole_chain(
    marketplace: LocalMarketplace,
    url: str,
    reader: Reader,
    agreement: Agreement,
    action: str,
    status: str,
    license_choice: str,
) -> None:
    chosen = {"plan": "Team"} if action == "replace" else {}
    page = act(url, agreement, action, license=license_choice, **chosen)

    newest = bought(marketplace)
    assert (newest.previous_id, reader.describe(newest.id)["status"]) == (agreement.id, "ACTIVE")
    assert reader.describe(agreement.id)["status"] == status
    assert (newest.license_arn == agreement.license_arn) is (license_choice == "same")
    assert reader.entitled(newest) == (TEAM if action == "replace" else STARTER)
    text = text_of(page)
    assert "replaced" in text if action == "replace" else "renewed" in text
    assert {form.fields["agreement"] for form in page.forms_to("manage")} == {newest.id}
    assert f"{agreement.id} {status} Starter plan, license {agreement.short_license}" in text
    assert f"{newest.id} ACTIVE {'Team' if action == 'replace' else 'Starter'} plan" in text

    before = open_manage(url, agreement)
    assert before.forms == []
    assert f"This agreement is {status}. Manage the one that follows it" in text_of(before)
    state = "which goes on" if license_choice == "same" else "no longer active"
    assert f"{agreement.short_license}, {state}" in text_of(before)
    assert "No entitlements of its own: those of the agreement that follows count." in text_of(before)


def test_the_license_is_the_same_unless_another_is_chosen(
    marketplace: LocalMarketplace, url: str, agreement: Agreement
) -> None:
    act(url, agreement, "renew")

    assert bought(marketplace).license_arn == agreement.license_arn


def test_a_free_trial_that_was_replaced_is_a_contract_also_in_the_form_that_is_posted(
    marketplace: LocalMarketplace, url: str
) -> None:
    trial = bought(marketplace, "free-trial")
    offer_type = "x-amzn-marketplace-offer-type"
    assert open_manage(url, trial).forms[0].fields[offer_type] == "free-trial"

    page = act(url, trial, "replace", plan="Starter")

    assert "Pricing Contract " in spaced(text_of(page))
    assert list(page.forms[0].fields) == [TOKEN]
    assert list(open_page(url).form("free-trial").fields) == [TOKEN]


def test_after_a_cancellation_nothing_is_left_to_do_but_to_subscribe_anew(
    marketplace: LocalMarketplace, url: str, reader: Reader, agreement: Agreement
) -> None:
    page = act(url, agreement, "cancel")

    assert "The subscription was cancelled." in page.text
    assert reader.describe(agreement.id)["status"] == "CANCELLED"
    assert reader.entitled(agreement) == {}
    assert page.forms_to("manage") == []
    assert "No entitlements: the agreement is CANCELLED." in text_of(page)
    assert "This subscription is over, so nothing about it can change. Subscribe anew" in text_of(page)

    storefront = open_page(url)
    assert storefront.setup_forms("new-product") == []
    assert "Starter plan CANCELLED" in text_of(storefront)
    assert text_of(storefront).count("This subscription is over.") == 1
    (again,) = (form for form in storefront.forms_to("agreements") if form.scenario == "new-product")
    assert again.submit(url).status_code == 200
    assert len(open_page(url).setup_forms("new-product")) == 1
    assert [each.status for each in marketplace.buyer.agreements(SCENARIOS["new-product"])] == ["CANCELLED", "ACTIVE"]


def test_what_this_account_cannot_buy_again_says_so(marketplace: LocalMarketplace, url: str) -> None:
    act(url, bought(marketplace, "free-trial"), "expire")

    assert "This account cannot buy it again. Shop as another buyer." in open_page(url).text


def test_after_an_expiry_the_entitlements_are_shown_as_expired(
    marketplace: LocalMarketplace, url: str, reader: Reader, agreement: Agreement
) -> None:
    text = text_of(act(url, agreement, "expire"))

    assert reader.describe(agreement.id)["status"] == "EXPIRED"
    assert reader.entitled(agreement) == STARTER
    assert "The end date has come, and the agreement has expired." in text
    assert f"{agreement.short_license}, expired" in text
    assert "Entitlements, which have expired" in text


def test_pay_as_you_go_is_cancelled_where_only_the_agreement_says_so(
    marketplace: LocalMarketplace, url: str, reader: Reader
) -> None:
    agreement = bought(marketplace, "pay-as-you-go")
    page = open_manage(url, agreement)
    assert "No entitlements: pay as you go never has any." in text_of(page)
    assert "which only the Agreement API says." in forms_of(page)["cancel"].text

    act(url, agreement, "cancel")

    assert reader.describe(agreement.id)["status"] == "CANCELLED"
    assert "Billed by use CANCELLED" in text_of(open_page(url))


def test_an_advisory_is_issued_and_resolved_and_changes_no_answer(
    marketplace: LocalMarketplace, url: str, reader: Reader, agreement: Agreement
) -> None:
    def answers() -> list[object]:
        return [reader.describe(agreement.id), reader.rows(LICENSE_ARN=[agreement.license_arn or ""])]

    before = answers()

    suspended = act(url, agreement, "suspend")
    assert "AWS has issued an advisory." in suspended.text
    assert "Advisory 20" in spaced(text_of(suspended))
    assert "resume" in forms_of(suspended)
    assert "suspend" not in forms_of(suspended)
    assert "Starter plan ACTIVE advisory" in text_of(open_page(url))
    assert answers() == before

    resumed = act(url, agreement, "resume")
    assert "AWS has resolved its advisory." in resumed.text
    assert "Advisory none" in spaced(text_of(resumed))
    assert answers() == before


def test_a_license_that_is_not_active_yet_can_be_made_active(
    marketplace: LocalMarketplace, url: str, aws: Aws, reader: Reader
) -> None:
    agreement = bought(marketplace, "not-yet-entitled")
    page = open_manage(url, agreement)
    assert "AWS tells your app of this agreement after the buyer has set up an account." in text_of(page)
    aws.resolve(page.forms[0].token)
    text = text_of(open_manage(url, agreement))
    assert "ACTIVE license not active yet" in text
    assert f"{agreement.short_license}, not active yet" in text
    assert "No entitlements yet. The license becomes active 20 seconds after the buyer has arrived" in text
    assert "AWS tells your app" not in text
    assert reader.entitled(agreement) == {}

    done = act(url, agreement, "prepare")

    assert "The license is active." in done.text
    assert "prepare" not in forms_of(done)
    assert reader.entitled(agreement) == STARTER


def test_a_license_that_has_become_active_meanwhile_is_shown_so() -> None:
    timer = Timer()
    marketplace = LocalMarketplace(timer=timer)
    agreement = bought(marketplace, "not-yet-entitled")
    with serve(marketplace) as url, Aws(url) as aws:
        aws.resolve(open_manage(url, agreement).forms[0].token)
        timer.seconds += 20

        page = open_manage(url, agreement)
        assert "not active yet" not in page.text

        refusal = refused(url, agreement=agreement.id, action="prepare")
        assert f"The license of {agreement.id} is active already." in refusal.text


def test_cards_lead_to_the_page_where_aws_confirms_who_the_buyer_is(marketplace: LocalMarketplace, url: str) -> None:
    html = httpx2.get(url).text

    linked = [name for name in SCENARIOS if f'agreement={bought(marketplace, name).id}"' in html]
    assert linked == [name for name, scenario in SCENARIOS.items() if scenario.resolves]


def test_the_buyer_can_set_up_an_account_from_the_page(
    marketplace: LocalMarketplace, url: str, aws: Aws, agreement: Agreement
) -> None:
    form = open_manage(url, agreement).forms[0]

    assert (form.method, form.action) == ("post", marketplace.registration_url)
    assert aws.resolve(form.token)["Metadata"]["AgreementId"] == agreement.id


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"action": "change-plan", "plan": "team"}, "Acme Analytics has no plan 'team'. Choose one of Starter, Team"),
        ({"action": "change-plan"}, "Acme Analytics has no plan ''. Choose one of Starter, Team, Enterprise."),
        ({"action": "replace", "plan": "Basic", "license": "new"}, "Acme Analytics has no plan 'Basic'."),
        ({"action": "resume"}, "is not suspended. Suspend it first."),
        ({"action": "prepare"}, "is active already."),
        ({"action": "buy"}, "There is no action 'buy'. Choose one of prepare, change-plan, renew, replace, suspend"),
        ({}, "There is no action ''."),
    ],
)
def test_what_cannot_be_is_said_on_the_page_and_changes_nothing(
    marketplace: LocalMarketplace, url: str, agreement: Agreement, fields: dict[str, str], sentence: str
) -> None:
    page = refused(url, agreement=agreement.id, **fields)

    assert sentence in page.text
    assert list(forms_of(page)) == list(forms_of(open_manage(url, agreement)))
    assert marketplace.agreement(agreement.id) == agreement


@pytest.mark.parametrize("action", ["change-plan", "renew", "replace", "suspend", "expire", "cancel"])
def test_a_page_that_is_out_of_date_is_refused_with_what_is_there_now(
    marketplace: LocalMarketplace, url: str, agreement: Agreement, action: str
) -> None:
    form = forms_of(open_manage(url, agreement))[action]
    cancelled = marketplace.cancel(agreement.id)

    response = form.submit(url, plan="Team")

    assert response.status_code == 400
    assert f"{agreement.id} is CANCELLED. Buy again." in response.text
    assert forms_of(Page(response.text)) == {}
    assert marketplace.agreement(agreement.id) == cancelled


def test_what_was_chosen_is_not_lost_when_it_is_refused(url: str, agreement: Agreement) -> None:
    form = forms_of(refused(url, agreement=agreement.id, action="replace", license="new"))

    assert form["replace"].fields["license"] == "new"
    assert form["renew"].fields["license"] == "same"


def test_of_an_agreement_that_was_renewed_the_page_names_the_one_that_follows(
    marketplace: LocalMarketplace, url: str, agreement: Agreement
) -> None:
    marketplace.renew(agreement.id)

    page = refused(url, agreement=agreement.id, action="replace", plan="Team")

    assert f"Name the agreement that follows it, {bought(marketplace).id}." in page.text


def test_an_advisory_of_an_agreement_that_was_renewed_is_resolved_and_the_newest_is_shown(
    marketplace: LocalMarketplace, url: str, agreement: Agreement
) -> None:
    marketplace.suspend(agreement.id)
    renewed = marketplace.renew(agreement.id)

    response = httpx2.post(f"{url}/manage", data={"agreement": agreement.id, "action": "resume"})

    assert response.status_code == 303
    assert response.headers["location"] == f"manage?agreement={renewed.id}&done=resume"


@pytest.mark.parametrize("name", ["agmt-1", "", "<script>"])
def test_an_agreement_that_is_not_known_is_said_and_leads_back(url: str, name: str) -> None:
    shown = httpx2.get(f"{url}/manage", params={"agreement": name})
    posted = httpx2.post(f"{url}/manage", data={"agreement": name, "action": "cancel"})

    for response in (shown, posted):
        page = Page(response.text)
        assert response.status_code == 404
        assert f"The local marketplace knows no agreement '{name}'." in page.text
        assert "script" not in page.tags


def test_the_page_is_found_by_every_name_of_the_agreement(url: str, agreement: Agreement) -> None:
    page = open_page(f"{url}/manage?agreement={agreement.license_arn}")

    assert {form.fields["agreement"] for form in page.forms_to("manage")} == {agreement.id}


def test_an_agreement_of_a_buyer_who_is_not_kept_can_still_be_managed(
    marketplace: LocalMarketplace, url: str, reader: Reader, agreement: Agreement
) -> None:
    company = marketplace.buyer.company
    marketplace.shop_as_another_buyer()
    assert f"Buyer {company} AWS account" in spaced(text_of(open_manage(url, agreement)))
    for _ in range(10):
        marketplace.shop_as_another_buyer()

    page = act(url, agreement, "cancel")

    assert f"AWS account {agreement.account_id}" in spaced(text_of(page))
    assert not re.search(r"\bBuyer\b", page.text)
    assert reader.describe(agreement.id)["status"] == "CANCELLED"


def test_a_note_that_is_none_of_ours_is_not_shown(url: str, agreement: Agreement) -> None:
    page = httpx2.get(f"{url}/manage?agreement={agreement.id}&done=sold").text

    assert 'role="status"' not in page
    assert "sold" not in page


def test_no_other_site_can_change_anything(marketplace: LocalMarketplace, url: str, agreement: Agreement) -> None:
    fields = {"agreement": agreement.id, "action": "cancel"}
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"}):
        assert httpx2.post(f"{url}/manage", data=fields, headers=headers).status_code == 403

    assert httpx2.get(f"{url}/manage?agreement={agreement.id}", headers={"Host": "evil.example"}).status_code == 403
    assert marketplace.agreement(agreement.id) == agreement


def test_the_page_needs_no_script_and_takes_nothing_from_elsewhere(url: str, agreement: Agreement) -> None:
    response = httpx2.get(f"{url}/manage?agreement={agreement.id}")
    page = Page(response.text)

    assert page.tags.isdisjoint({"script", "style", "iframe", "img"})
    assert page.loads[1:] == ["static/storefront.css", "static/manage.css"]
    assert httpx2.get(f"{url}/static/manage.css").headers["content-type"] == "text/css; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert "script-src" not in response.headers["content-security-policy"]
    assert page.headings[0] == "h1"


@pytest.mark.parametrize(
    ("action", "effect"),
    [
        ("change-plan", "The agreement and its license stay, and GetEntitlements answers with the new plan."),
        ("cancel", "The agreement becomes CANCELLED and the entitlements are gone."),
    ],
)
def test_each_action_says_what_aws_does(url: str, agreement: Agreement, action: str, effect: str) -> None:
    forms = forms_of(open_manage(url, agreement))

    assert effect in forms[action].text
    for form in forms.values():
        assert form.method == "post"
        assert re.search(r"[A-Z]\w+ .*\.", form.text)
