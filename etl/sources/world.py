"""The shop behind the generated data: its users, its items, and what makes somebody click.

The logit of a click is a known function of what the row shows and of two small hidden parts, one per user and one per
item:

    bias + <taste of the user's segment + hidden, style of the item's segment + hidden> + age, device, price and tag
    effects

Segments are country x age group on one side and category and brand on the other, so most of the signal can be learnt
from a few hundred thousand rows, and the rest only by seeing the same user or item often. A null shows nothing and adds
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DIMENSIONS = 4
AGE_GROUPS = (0.0, 22.0, 30.0, 42.0, 58.0)
MAX_TAGS = 6
UNSEEN = 0.02
"""Share of users, and of items, that exist only in the last week."""

_COUNTRIES = """
    US GB DE FR JP BR CA AU IN IT ES NL SE PL MX KR CH AT BE DK NO FI IE PT CZ GR HU RO TR ZA
    AR CL CO PE NZ SG MY TH VN ID PH EG MA KE NG GH IS LU EE LV LT SI SK HR RS BG UA MT CY UY
"""
COUNTRIES = tuple(_COUNTRIES.split())
REGIONS = 8
"""Countries of a region (every eighth of the list) share most of their taste."""
DEVICES = ("phone", "desktop", "tablet", "tv", "watch", "console")
_KINDS = ("basics", "outdoor", "kids", "gifts", "repair", "vintage", "travel", "premium")
_AISLES = ("kitchen", "garden", "books", "toys", "audio", "shoes", "coats", "tools", "tea", "bikes")
CATEGORIES = tuple(f"{aisle}/{kind}" for kind in _KINDS for aisle in _AISLES)
_FIRST = (
    "Nor",
    "Al",
    "Bel",
    "Cas",
    "Dor",
    "Él",
    "Fen",
    "Gar",
    "Hal",
    "Ís",
    "Jun",
    "Kor",
    "Lum",
    "Mar",
    "Ør",
    "Pel",
    "Quin",
    "Ros",
)
_LAST = ("dal", "mont", "wick", "ström", "ia", "bach", "vale", "ova", "ton", "é", "haus", "berg")
BRANDS = tuple(first + last for last in _LAST for first in _FIRST)
_TAGS = """
    new sale eco handmade bestseller limited organic recycled wool cotton steel wood glass leather red blue green black
    white gold small large light heavy soft warm waterproof foldable wireless classic modern retro minimal floral
    striped plain gift-wrap refill bundle local import fair-trade vegan spare seasonal clearance exclusive rated-5
    returns-free fragile
"""
TAGS = tuple(_TAGS.split())


def long_tail(rng: np.random.Generator, values: int, size: int, exponent: float) -> Ints:
    """Draw `size` indices below `values`, the first the most frequent (Zipf with this exponent)."""
    return np.searchsorted(zipf(values, exponent), rng.random(size)).astype(np.int64)


def zipf(values: int, exponent: float) -> Floats:
    """The cumulative probabilities of a Zipf law over `values` ranks."""
    weights = np.arange(1, values + 1, dtype=np.float64) ** -exponent
    cumulated = np.cumsum(weights)
    return np.asarray(cumulated / cumulated[-1] * (1 - 1e-12))


@dataclass(frozen=True)
class Effects:
    """What each visible value adds: taste and style vectors [n, DIMENSIONS] and plain effects [n]."""

    country: Floats
    age: Floats
    category: Floats
    brand: Floats
    device: Floats
    device_category: Floats
    country_bias: Floats
    age_bias: Floats
    category_bias: Floats
    brand_bias: Floats
    tag: Floats

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Effects:
        """Draw all effects; the number of countries, categories, brands … is that of the module's tables."""

        def normal(scale: float, *shape: int) -> Floats:
            return rng.normal(0.0, scale, shape)

        return cls(
            country=_spread(rng, len(COUNTRIES), REGIONS, 0.35, 0.1),
            age=normal(0.55, len(AGE_GROUPS), DIMENSIONS),
            category=_spread(rng, len(CATEGORIES), len(_AISLES), 0.6, 0.1),
            brand=normal(0.05, len(BRANDS), DIMENSIONS),
            device=normal(0.35, len(DEVICES)),
            device_category=normal(0.1, len(DEVICES), len(CATEGORIES)),
            country_bias=normal(0.35, len(COUNTRIES)),
            age_bias=normal(0.35, len(AGE_GROUPS)),
            category_bias=normal(0.5, len(CATEGORIES)),
            brand_bias=normal(0.25, len(BRANDS)),
            tag=normal(0.3, len(TAGS)),
        )


@dataclass(frozen=True)
class Users:
    """One entry per user; `age` is NaN and `country` -1 where the shop does not know it."""

    ids: Ints
    country: Ints
    age: Floats
    device: Ints
    bias: Floats
    taste: Floats

    @classmethod
    def draw(cls, rng: np.random.Generator, count: int, effects: Effects) -> Users:
        """Draw `count` users."""
        country = np.where(rng.random(count) < 0.01, -1, long_tail(rng, len(COUNTRIES), count, 1.1))
        age = np.clip(np.round(rng.gamma(7.0, 3.2, count) + 14), 16, 95)
        age[rng.random(count) < 0.08] = np.nan
        group = age_group(age)
        taste = shown(effects.country, country) + shown(effects.age, group) + rng.normal(0, 0.05, (count, DIMENSIONS))
        bias = shown(effects.country_bias, country) + shown(effects.age_bias, group) + rng.normal(0, 0.1, count)
        ids = 100_000 + rng.permutation(count).astype(np.int64)
        return cls(ids, country, age, long_tail(rng, len(DEVICES), count, 1.2), bias, taste)


@dataclass(frozen=True)
class Items:
    """One entry per item; `tags` is a list column, null for items nobody has tagged."""

    ids: Ints
    category: Ints
    brand: Ints
    price: Floats
    tags: pl.Series
    bias: Floats
    style: Floats

    @classmethod
    def draw(cls, rng: np.random.Generator, count: int, effects: Effects) -> Items:
        """Draw `count` items."""
        category = long_tail(rng, len(CATEGORIES), count, 0.9)
        brand = np.where(rng.random(count) < 0.05, -1, long_tail(rng, len(BRANDS), count, 0.9))
        level = rng.normal(2.9, 0.6, len(CATEGORIES))
        price = np.exp(level[category] + rng.normal(0, 0.5, count))
        tags, tag_effect = draw_tags(rng, count, effects.tag)
        bias = (
            effects.category_bias[category] + shown(effects.brand_bias, brand) + tag_effect + rng.normal(0, 0.1, count)
        )
        style = effects.category[category] + shown(effects.brand, brand) + rng.normal(0, 0.05, (count, DIMENSIONS))
        ids = 1_000 + rng.permutation(count).astype(np.int64)
        return cls(ids, category, brand, price, tags, bias, style)


def _spread(rng: np.random.Generator, values: int, groups: int, between: float, within: float) -> Floats:
    """Vectors [values, DIMENSIONS] that resemble each other in each of the `groups`; value i is in group i % groups."""
    centres = rng.normal(0.0, between, (groups, DIMENSIONS))
    return np.asarray(centres[np.arange(values) % groups] + rng.normal(0.0, within, (values, DIMENSIONS)))


def draw_tags(rng: np.random.Generator, count: int, effects: Floats) -> tuple[pl.Series, Floats]:
    """Return (a list of 0 to MAX_TAGS different tags or null per item, the sum of their effects)."""
    keys = rng.random((count, len(TAGS))) ** (1.0 / np.arange(1, len(TAGS) + 1) ** -0.7)
    chosen = np.argsort(-keys, axis=1)[:, :MAX_TAGS]
    lengths = rng.binomial(MAX_TAGS, 0.4, count)
    lengths[rng.random(count) < 0.03] = -1
    used = np.arange(MAX_TAGS) < lengths[:, None]
    names = pl.Series(TAGS)
    table = pl.DataFrame({"item": np.nonzero(used)[0], "tag": names.gather(chosen[used])})
    lists = table.group_by("item", maintain_order=True).agg("tag")
    rows = pl.DataFrame({"item": np.arange(count), "length": lengths}).join(
        lists, on="item", how="left", maintain_order="left"
    )
    tags = pl.when(pl.col("length") == 0).then(pl.lit([], dtype=pl.List(pl.String))).otherwise(pl.col("tag"))
    return rows.select(tags.alias("tags"))["tags"], np.where(used, effects[chosen], 0.0).sum(axis=1)


def shown(effects: Floats, index: Ints) -> Floats:
    """The effects at `index`, zero where it is -1 (the value is not shown)."""
    found = effects[index]
    found[index < 0] = 0.0
    return found


def age_group(age: Floats) -> Ints:
    """The age group, -1 for NaN."""
    group = np.searchsorted(AGE_GROUPS, np.nan_to_num(age, nan=0.0), side="right") - 1
    return np.where(np.isnan(age), -1, group).astype(np.int64)
