"""A pooler in transaction mode: recognised by its URL, and nothing is prepared on its connections."""

import pytest
from sqlalchemy import make_url

from lib.database._poolers import is_pooled, without_mark


@pytest.mark.parametrize(
    "url",
    [
        "postgres://ada@ep-blue-sea-123456-pooler.eu-central-1.aws.neon.tech/app?sslmode=require",
        "postgres://postgres.ref@aws-0-eu-west-1.pooler.supabase.com:6543/postgres",
        "postgresql://ada@10.0.0.5:6432/app",
        "postgresql://ada@db.example/app?pgbouncer=true",
        "postgresql://ada@db.example/app?sslmode=require&pgbouncer=1",
    ],
)
def test_poolers_are_recognised(url):
    assert is_pooled(make_url(url))


@pytest.mark.parametrize(
    "url",
    [
        "postgres://ada@ep-blue-sea-123456.eu-central-1.aws.neon.tech/app",
        "postgres://postgres@db.ref.supabase.co:5432/postgres",
        "postgres://postgres.ref@aws-0-eu-west-1.pooler.supabase.com:5432/postgres",  # keeps it for a session
        "postgresql:///app",
        "postgresql://ada@my-pooler/app",
        "postgresql://ada@db.example:6432/app?pgbouncer=false",
    ],
)
def test_direct_connections_are_taken_for_what_they_are(url):
    assert not is_pooled(make_url(url))


def test_the_mark_is_not_handed_to_the_driver():
    url = without_mark(make_url("postgresql://ada@db.example/app?pgbouncer=true&sslmode=require"))

    assert dict(url.query) == {"sslmode": "require"}
