"""python endpoint_migration.py [records.csv]"""

import csv
import sys
from collections import defaultdict

from members import transaction


def add_column() -> None:
    with transaction() as database:
        columns = {row["name"] for row in database.execute("PRAGMA table_info(subscription)")}
        if "customer_key" not in columns:
            database.execute("ALTER TABLE subscription ADD COLUMN customer_key TEXT")
            database.execute("CREATE UNIQUE INDEX subscription_customer_key ON subscription (customer_key)")


def fill(records: list[dict[str, str]]) -> None:
    """Fill in what AWS's records say: the account of each row, and its licence where there is no choice."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for record in records:
        found[record["customer_identifier"]].add((record["aws_account_id"], record["license_arn"]))
    with transaction() as database:
        for customer_identifier, agreements in found.items():
            accounts = {account for account, _ in agreements}
            if len(accounts) > 1:
                continue
            database.execute(
                "UPDATE subscription SET aws_account_id = ? WHERE customer_identifier = ? AND customer_key IS NULL",
                (*accounts, customer_identifier),
            )
            licenses = [license_arn for _, license_arn in agreements]
            if len(licenses) == 1 and licenses != [""]:
                database.execute(
                    "UPDATE subscription SET customer_key = ? WHERE customer_identifier = ? AND customer_key IS NULL",
                    (*licenses, customer_identifier),
                )


if __name__ == "__main__":
    add_column()
    if len(sys.argv) > 1:
        with open(sys.argv[1], newline="") as file:
            fill(list(csv.DictReader(file)))
    with transaction() as database:
        [row] = database.execute("SELECT count(*) AS waiting FROM subscription WHERE customer_key IS NULL")
    sys.stdout.write(f"{row['waiting']} rows wait for their customer to come\n")
