"""python endpoint_migration.py [records.csv]"""

import csv
import re
import sqlite3
import sys
from collections import Counter, defaultdict

from members import transaction

COLUMNS = ("customer_identifier", "product_code", "aws_account_id", "license_arn")
ACCOUNT = re.compile("[0-9]{12}")
LICENSE = re.compile(r"arn:aws[a-z-]*(:[^:\s]*){3}:\S+")

Customer = tuple[str, str]  # customer_identifier, product_code
Agreement = tuple[str, str]  # aws_account_id, license_arn


def add_column() -> None:
    with transaction() as database:
        columns = {row["name"] for row in database.execute("PRAGMA table_info(subscription)")}
        if "customer_key" not in columns:
            database.execute("ALTER TABLE subscription ADD COLUMN customer_key TEXT")
            database.execute("CREATE UNIQUE INDEX subscription_customer_key ON subscription (customer_key)")


def read(path: str) -> dict[Customer, set[Agreement]]:
    found: dict[Customer, set[Agreement]] = defaultdict(set)
    with open(path, newline="", encoding="utf-8-sig") as file:  # what spreadsheets write begins with a BOM
        table = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (table.fieldnames or ())]
        if missing:
            raise SystemExit(f"{path} has no column {', '.join(missing)}")
        for record in table:
            customer_identifier, product_code, account, license_arn = [(record[name] or "").strip() for name in COLUMNS]
            found[customer_identifier, product_code].add((account, license_arn))
    return found


def fill(customer: Customer, agreements: set[Agreement]) -> str:
    """Fill in what the records say of one customer, only where nothing is, and say what has become of it."""
    accounts = {account for account, _ in agreements}
    licenses = {license_arn for _, license_arn in agreements}
    if not all(ACCOUNT.fullmatch(account) for account in accounts):
        return "left alone: an AWS account that has not 12 digits"
    if not all(LICENSE.fullmatch(license_arn) for license_arn in licenses - {""}):
        return "left alone: a licence that is none"
    if len(accounts) > 1:
        return "left alone: several AWS accounts"
    [account] = accounts
    with transaction() as database:
        row = database.execute(
            """SELECT rowid, aws_account_id FROM subscription
               WHERE customer_identifier = ? AND product_code = ? AND customer_key IS NULL""",
            customer,
        ).fetchone()
        if row is None:
            return "no row waits"
        if row["aws_account_id"] not in {None, "", account}:
            return "left alone: the row has another AWS account"
        # The app goes on meanwhile, so the customer may have come since and linked the row.
        still_waits = database.execute(
            "UPDATE subscription SET aws_account_id = ? WHERE rowid = ? AND customer_key IS NULL",
            (account, row["rowid"]),
        ).rowcount
        if not still_waits:
            return "no row waits"
        if licenses == {""}:
            return "waits: no licence"
        if len(licenses) > 1:
            return "waits: several licences, of which the customer chooses by coming"
        # A key that AWS's next answer does not make is a customer lost: the keys of those who came are the proof.
        [came] = database.execute(
            """SELECT min(customer_key LIKE 'arn:%') AS by_license FROM subscription
               WHERE product_code = ? AND customer_key IS NOT NULL""",
            customer[1:],
        )
        if not came["by_license"]:
            return "waits: it is not proven that AWS's answers for this product have a licence"
        try:
            database.execute("UPDATE subscription SET customer_key = ? WHERE rowid = ?", (*licenses, row["rowid"]))
        except sqlite3.IntegrityError:
            return "waits for you: another row has this licence, as the customer has signed up anew"
    return "has its key"


if __name__ == "__main__":
    add_column()
    if len(sys.argv) > 1:
        records = read(sys.argv[1])
        holders = Counter(arn for agreements in records.values() for arn in {arn for _, arn in agreements} - {""})
        for customer, agreements in records.items():
            is_shared = any(holders[license_arn] > 1 for _, license_arn in agreements)
            outcome = "left alone: a licence of several customers" if is_shared else fill(customer, agreements)
            sys.stdout.write(f"{' '.join(customer)}: {outcome}\n")
    with transaction() as database:
        [row] = database.execute("SELECT count(*) AS waiting FROM subscription WHERE customer_key IS NULL")
    sys.stdout.write(f"{row['waiting']} rows wait for their customer to come\n")
