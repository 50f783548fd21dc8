"""Writes requests.csv: what learners asked a tutor in four weeks. The same file with every run.

python data/make_requests.py
"""

import csv
import random
from bisect import bisect
from datetime import UTC, datetime, timedelta
from itertools import accumulate, product
from pathlib import Path

SEED = 8
REQUESTS_FILE = Path(__file__).with_name("requests.csv")
REQUESTS = 5000
START = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
DAYS = 28
USERS = ["zoe", "tomas", "amelie", *(f"learner-{number:02}" for number in range(4, 41))]
SERVICES = [
    "S3",
    "Lambda",
    "EC2",
    "IAM",
    "VPC",
    "RDS",
    "DynamoDB",
    "CloudFront",
    "Route53",
    "SQS",
    "SNS",
    "EBS",
    "EFS",
    "ECS",
    "EKS",
    "CloudWatch",
    "CloudTrail",
    "KMS",
    "Kinesis",
    "Athena",
    "Glue",
    "Redshift",
    "ElastiCache",
    "StepFunctions",
]
ASPECTS = ("basics", "pricing", "limits", "security", "mistakes")
LEVELS = {"beginner": 0.55, "intermediate": 0.3, "advanced": 0.15}
# How much is asked in each hour of the day (UTC): little at night, most before noon and after dinner.
HOURS = (1, 1, 0.5, 0.5, 0.5, 1, 2, 4, 7, 9, 10, 8, 5, 6, 7, 7, 6, 5, 6, 9, 10, 8, 5, 2)
WEEKEND = 0.5  # of a working day's requests


def drawn(chance: random.Random, sums: list[float]) -> int:
    """A place, as often as its weight says. From `random()` alone, which gives the same numbers in every Python."""
    return bisect(sums, chance.random() * sums[-1])


def falling(count: int, exponent: float) -> list[float]:
    """Zipf's weights, summed up: the second is asked half as often as the first (to the power of `exponent`)."""
    return list(accumulate(1 / rank**exponent for rank in range(1, count + 1)))


def requests() -> list[tuple[str, str, str, str, int]]:
    chance = random.Random(SEED)
    topics = [f"{service} {aspect}" for service, aspect in product(SERVICES, ASPECTS)]
    topics.sort(key=lambda _: chance.random())  # which of them is popular is left to chance
    tokens = {(topic, level): 150 + int(chance.random() * 700) for topic, level in product(topics, LEVELS)}
    usual = {user: drawn(chance, list(accumulate(LEVELS.values()))) for user in USERS}
    days = list(accumulate(WEEKEND if day % 7 >= 5 else 1.0 for day in range(DAYS)))
    hours, users, popularity = list(accumulate(HOURS)), falling(len(USERS), 0.7), falling(len(topics), 1.0)
    rows = []
    for _ in range(REQUESTS):
        at = START + timedelta(
            days=drawn(chance, days), hours=drawn(chance, hours), seconds=int(chance.random() * 3600)
        )
        user, topic = USERS[drawn(chance, users)], topics[drawn(chance, popularity)]
        place = usual[user] if chance.random() < 0.8 else drawn(chance, list(accumulate(LEVELS.values())))
        level = list(LEVELS)[place]
        rows.append((f"{at:%Y-%m-%dT%H:%M:%SZ}", user, topic, level, tokens[topic, level]))
    return sorted(rows)


def main(path: Path = REQUESTS_FILE) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("time", "user", "topic", "level", "tokens"))
        writer.writerows(requests())


if __name__ == "__main__":
    main()
