"""XGBoost, LightGBM and scikit-learn: each library's forests read as a Forest, their reasons for refusal with them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import numpy as np

from etl.errors import ConfigError
from training.export.forests import Array, Forest, Mode
from training.tensorflow import quiet

_CONVERTER_OPSET = 15  # the newest that onnxmltools knows; its few plain operators mean the same in later ones
_LIGHTGBM: dict[str, Mode] = {
    "binary": "positive",
    "multiclass": "probabilities",
    **dict.fromkeys(("regression", "regression_l1", "huber", "fair", "quantile", "mape"), "values"),
    **dict.fromkeys(("poisson", "gamma", "tweedie", "lambdarank", "rank_xendcg"), "values"),
}


def is_forest(model: Any) -> bool:
    """Return whether `model` is of a library that this module reads."""
    return _reader(model) is not None


def read_forest(model: Any) -> Forest:
    """Return a trained model of XGBoost, LightGBM or scikit-learn, or Merlin's wrapper of XGBoost, as a Forest.

    ConfigError for models of other kinds, with the reason.
    """
    reader = _reader(model)
    if reader is None:
        expected = "an XGBoost or LightGBM model, or a RandomForest or ExtraTrees of scikit-learn"
        raise ConfigError("the forest", expected=expected, received=f"{type(model).__module__}.{type(model).__name__}")
    return reader(model)


def _reader(model: Any) -> Callable[[Any], Forest] | None:
    module, name = type(model).__module__, type(model).__name__
    if module.startswith("xgboost") or (module.startswith("merlin.models.xgb") and hasattr(model, "booster")):
        return _xgboost
    if module.startswith("lightgbm"):
        return _lightgbm
    if module.startswith("sklearn") and re.fullmatch(r"(RandomForest|ExtraTrees)(Classifier|Regressor)", name):
        return _sklearn
    return None


def _refuse(reason: str, hint: str) -> NoReturn:
    raise ConfigError(f"the forest: {reason}", hint=hint)


def _labels(count: int) -> tuple[float, ...]:
    return tuple(map(float, range(count)))


def _xgboost(model: Any) -> Forest:
    booster = model.get_booster() if hasattr(model, "get_booster") else getattr(model, "booster", model)
    learner = json.loads(booster.save_config())["learner"]
    kind, objective = learner["gradient_booster"]["name"], learner["objective"]["name"]
    facts = learner["learner_model_param"]
    if kind != "gbtree":
        _refuse(f"XGBoost's booster {kind}", "Train it with booster='gbtree'.")
    if objective in ("binary:hinge", "binary:logitraw"):
        _refuse(f"XGBoost's objective {objective}", "Train it with binary:logistic.")
    if "c" in (booster.feature_types or []):
        _refuse("XGBoost's categorical features", "Train it on the codes as numbers, without enable_categorical.")
    if int(facts.get("num_target", 1)) > 1:
        _refuse("several targets", "Train a forest for each.")
    classes = int(facts["num_class"]) or 2 * objective.startswith("binary:")
    natural = "values" if not classes else _xgboost_natural(objective)
    own = partial(_xgboost_own, booster)
    shares = None if natural in ("values", "class") else partial(_both, own) if natural == "positive" else own
    names, features = tuple(booster.feature_names or ()), booster.num_features()
    convert = partial(_xgboost_convert, booster, objective)
    return Forest("XGBoost", features, names, classes, natural, convert, own, shares, _labels(classes))


def _xgboost_natural(objective: str) -> Mode:
    if objective.startswith("binary:"):
        return "positive"
    return "class" if objective == "multi:softmax" else "probabilities"


def _xgboost_own(booster: Any, values: Array) -> Array:
    import xgboost

    data = xgboost.DMatrix(values, feature_names=booster.feature_names, feature_types=booster.feature_types)
    return np.asarray(booster.predict(data))


def _xgboost_convert(booster: Any, objective: str) -> Any:
    import xgboost
    from onnxmltools.convert import convert_xgboost

    bare = xgboost.Booster()
    bare.load_model(booster.save_raw("ubj"))
    # The converter wants names f0, f1, ..., and stops at the best round, which Booster.predict does not.
    bare.feature_names = bare.feature_types = None
    bare.set_attr(best_iteration=None, best_score=None)
    if objective.startswith("rank:"):
        bare.set_param({"objective": "reg:squarederror"})  # the same sum of leaves; the converter knows no ranking
    return convert_xgboost(bare, initial_types=_types(booster.num_features()), target_opset=_CONVERTER_OPSET)


def _lightgbm(model: Any) -> Forest:
    booster = getattr(model, "booster_", model)
    dump = booster.dump_model(num_iteration=1)
    if dump.get("average_output"):
        _refuse("LightGBM's boosting type rf", "Train it with gbdt, or a random forest of scikit-learn.")
    objective = str(dump.get("objective", "")).split(" ")[0]
    if objective not in _LIGHTGBM:
        _refuse(f"LightGBM's objective {objective or '(its own)'}", f"Those taken are {', '.join(_LIGHTGBM)}.")
    natural = _LIGHTGBM[objective]
    classes = {"values": 0, "positive": 2}.get(natural, int(dump["num_class"]))
    own = partial(_plain, booster.predict)
    shares = {"values": None, "positive": partial(_both, own)}.get(natural, own)
    names, features = tuple(booster.feature_name()), booster.num_feature()
    convert = partial(_lightgbm_convert, booster)
    return Forest("LightGBM", features, names, classes, natural, convert, own, shares, _labels(classes))


def _lightgbm_convert(booster: Any) -> Any:
    from onnxmltools.convert import convert_lightgbm

    types = _types(booster.num_feature())
    return convert_lightgbm(booster, initial_types=types, target_opset=_CONVERTER_OPSET, zipmap=False)


def _sklearn(model: Any) -> Forest:
    if model.n_outputs_ > 1:
        _refuse("several targets", "Train a forest for each.")
    names, features = tuple(map(str, getattr(model, "feature_names_in_", ()))), model.n_features_in_
    convert, own = partial(_sklearn_convert, model), partial(_plain, model.predict)
    if not hasattr(model, "classes_"):
        return Forest("scikit-learn", features, names, 0, "values", convert, own)
    if model.classes_.dtype.kind not in "iufb":
        _refuse("classes that are texts", "Train it on their numbers: the answer is float32.")
    labels, shares = tuple(map(float, model.classes_)), partial(_plain, model.predict_proba)
    count = len(model.estimators_)
    return Forest("scikit-learn", features, names, len(labels), "class", convert, own, shares, labels, count)


def _sklearn_convert(model: Any) -> Any:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    types = [("input", FloatTensorType([None, model.n_features_in_]))]
    options = {id(model): {"zipmap": False}} if hasattr(model, "classes_") else None
    return convert_sklearn(model, initial_types=types, target_opset=_CONVERTER_OPSET, options=options)


def _types(features: int) -> list[tuple[str, Any]]:
    from onnxmltools.convert.common.data_types import FloatTensorType

    return [("input", FloatTensorType([None, features]))]


def _plain(predict: Callable[[Array], Any], values: Array) -> Array:
    with quiet():  # scikit-learn warns of an array without names
        return np.asarray(predict(values))


def _both(own: Callable[[Array], Array], values: Array) -> Array:
    """The probabilities of two classes, of the second's."""
    found = own(values)
    return np.stack([1 - found, found], axis=1)
