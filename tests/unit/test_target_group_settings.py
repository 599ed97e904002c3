"""Where the settings say this process stands: checked at the start, not found out by its polls."""

from __future__ import annotations

import pytest

from gateway.app.parts import target_health
from gateway.errors import SettingsError
from tests.support.bench import make_settings
from tests.support.fake_target_health import GROUP


@pytest.mark.parametrize(
    ("key", "flags"),
    [
        ("drain.target_group_arns", ("drain.target_group_arns=web",)),
        ("drain.target_group_arns", (f"drain.target_group_arns={GROUP},arn:aws:s3:::bucket",)),
        ("drain.target", (f"drain.target_group_arns={GROUP}", "drain.target=10.0.1.7:80800")),
        ("drain.target", (f"drain.target_group_arns={GROUP}", "drain.target=10.0.1.7:0")),
        ("drain.target", ("drain.target=10.0.1.7:8080",)),
        *[
            ("drain.target", (f"drain.target_group_arns={GROUP}", f"drain.target={text}"))
            for text in (
                "10.0.1.7",
                ":80",
                "10.0.1.7:",
                "2001:db8::7:8080",
                "[2001:db8::7]",
                "[x]:80",
                "a b:80",
                "a:８０",
            )
        ],
    ],
)
def test_what_cannot_be_a_place_is_told_by_its_key(key: str, flags: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError) as raised:
        target_health(make_settings(*flags))
    assert raised.value.key == key


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_a_group_of_any_partition_is_one(partition: str) -> None:
    arn = GROUP.replace("arn:aws:", f"arn:{partition}:")
    assert target_health(make_settings(f"drain.target_group_arns={arn}", "drain.target=10.0.1.7:8080")) is not None


@pytest.mark.parametrize("target", ["[2001:db8::7]:8080", "[2001:DB8:0::7]:08080", "i-0abc:32768", "10.0.1.7:8080"])
async def test_where_this_process_is_listed(target: str) -> None:
    health = target_health(make_settings(f"drain.target_group_arns={GROUP}", f"drain.target={target}"))
    assert health is not None
    membership = await health.membership()
    assert len(list(membership.places())) == 1
    assert next(membership.places()).removesuffix("8080").removesuffix("32768") in (
        "[2001:db8::7]:",
        "i-0abc:",
        "10.0.1.7:",
    )
