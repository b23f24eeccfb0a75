"""MLflow's registry: the only module that knows MLflow. SQLite and a folder of artifacts, or a server by its address.

A version is an MLflow model version and the run it came from: parameters and metrics are the run's, tags and aliases
the version's. Nothing is pickled: artifacts are the files of a run folder.
"""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from etl.atomic import atomic_file
from etl.errors import ArtifactError, ConfigError, MewsError
from training import sqlite_file
from training.registry.config import RegistryConfig
from training.registry.server import check_answers
from training.registry.version import Entry, Version, event_tag, version_of

DATABASE, ARTIFACTS = "mlflow.sqlite", "artifacts"
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
_TABLE = "registered_models"
_LONGEST = 5000
"""Characters of a parameter or tag that every MLflow keeps."""
_LINE = 120
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_TOGETHER = 100
"""Parameters and metrics that every MLflow takes in one request."""


class Store:
    """The versions of the registered model `config.name`, in the folder `folder` unless the configuration says where.

    ArtifactError when the registry cannot be read; a file that is broken is left as it is.
    """

    def __init__(self, config: RegistryConfig, folder: Path) -> None:
        self.config = config
        self.uri = config.uri or f"sqlite:///{folder.absolute() / DATABASE}"
        self.file = Path(unquote(urlsplit(self.uri).path[1:])) if self.uri.startswith("sqlite:") else None

    @property
    def exists(self) -> bool:
        """Whether there is a registry; of a server this is taken for granted."""
        return self.file is None or self.file.exists()

    def check(self) -> None:
        """ArtifactError, within seconds, when the server does not answer or the file is broken."""
        if self.file is None:
            check_answers(self.uri)
        else:
            self._check(self.file)

    def register(self, entry: Entry, event: Mapping[str, Any]) -> Version:
        """Keep the entry as the next version and make it the challenger; returns it."""
        with self._asked():
            client, experiment = self._client, self._experiment()
            run = client.create_run(experiment, tags={"mews.model": self.config.name})
            run_id = run.info.run_id
            self._log(run_id, entry.parameters, entry.metrics)
            for place, path in entry.files.items():
                _log_file(client, run_id, path, place)
            client.set_terminated(run_id)
            if not client.search_registered_models(f"name = '{self.config.name}'"):
                client.create_registered_model(self.config.name)
            tags = {**entry.tags, event_tag(0): json.dumps(dict(event))}
            source = f"{run.info.artifact_uri}/model"
            made = client.create_model_version(self.config.name, source, run_id, tags=tags)
            client.set_registered_model_alias(self.config.name, CHALLENGER, made.version)
        return self.version(int(made.version))

    def begin(self, parameters: Mapping[str, str]) -> str:
        """Start a run that is told of while it trains; returns its id."""
        with self._asked():
            run_id = str(self._client.create_run(self._experiment(), tags={"mews.model": self.config.name}).info.run_id)
            self._log(run_id, parameters, {})
        return run_id

    def tell(self, run_id: str, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to the curves of such a run."""
        with self._asked():
            self._log(run_id, {}, metrics, step)

    def _log(self, run_id: str, parameters: Mapping[str, str], metrics: Mapping[str, float], step: int = 0) -> None:
        """Add all of them to a run, many at a time: with a server each request takes milliseconds."""
        from mlflow.entities import Metric, Param

        now = time.time_ns() // 1_000_000
        told = [Param(name, value[:_LONGEST]) for name, value in parameters.items()]
        points = [Metric(_metric_name(name), number, now, step) for name, number in metrics.items()]
        for at in range(0, max(len(told), len(points)), _TOGETHER):
            self._client.log_batch(run_id, points[at : at + _TOGETHER], told[at : at + _TOGETHER])

    def end(self, run_id: str, finished: bool) -> None:
        """End such a run."""
        with self._asked():
            self._client.set_terminated(run_id, "FINISHED" if finished else "FAILED")

    def versions(self) -> list[Version]:
        """Return all versions, oldest first."""
        if not self.exists:
            return []
        with self._asked():
            named = self._client.search_registered_models(f"name = '{self.config.name}'")
            if not named:
                return []
            aliases: dict[int, list[str]] = {}
            for alias, number in named[0].aliases.items():
                aliases.setdefault(int(number), []).append(alias)
            found = self._found()
        made = (version_of(one, tuple(sorted(aliases.get(int(one.version), ())))) for one in found)
        return sorted(made, key=lambda one: one.number)

    def _found(self) -> list[Any]:
        """All versions as MLflow has them, asked for page by page."""
        page = self._client.search_model_versions(f"name = '{self.config.name}'")
        found = list(page)
        while page.token:
            page = self._client.search_model_versions(f"name = '{self.config.name}'", page_token=page.token)
            found += page
        return found

    def version(self, which: int | str) -> Version:
        """Return the version of this number or alias; ConfigError when there is none."""
        known = self.versions()
        for one in known:
            if which in (one.number, *one.aliases, str(one.number)):
                return one
        shown = ", ".join(" ".join([str(one.number), *one.aliases]) for one in known)
        raise ConfigError(
            f"version {which} of {self.config.name}",
            expected=f"one of {shown}" if known else "a registered version",
            received="none such" if known else "none",
            hint="" if known else "Run `mews models register` first.",
        )

    def aliased(self, alias: str) -> Version | None:
        """Return the version with this alias, None if there is none."""
        return next((one for one in self.versions() if alias in one.aliases), None)

    def run(self, version: Version) -> tuple[dict[str, str], dict[str, float]]:
        """Return the parameters and the metrics of a version."""
        with self._asked():
            data = self._client.get_run(version.run_id).data
        return dict(data.params), dict(data.metrics)

    def file_of(self, version: Version, place: str, folder: Path) -> Path | None:
        """Return a file of a version, brought into `folder` if it is on no disk here; None if there is none such."""
        with self._asked():
            parent = place.rpartition("/")[0] or None
            if place not in {one.path for one in self._client.list_artifacts(version.run_id, parent)}:
                return None
            return Path(self._client.download_artifacts(version.run_id, place, str(folder)))

    def note(self, version: Version, event: Mapping[str, Any]) -> None:
        """Add an event to those of a version, which was read since the last one."""
        with self._asked():
            tag = event_tag(len(version.events))
            self._client.set_model_version_tag(self.config.name, str(version.number), tag, json.dumps(dict(event)))

    def set_alias(self, alias: str, version: Version) -> None:
        """Give the alias to a version; another loses it."""
        with self._asked():
            self._client.set_registered_model_alias(self.config.name, alias, str(version.number))

    def drop_alias(self, alias: str) -> None:
        """Take the alias away."""
        with self._asked():
            self._client.delete_registered_model_alias(self.config.name, alias)

    @cached_property
    def _client(self) -> Any:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        self.check()
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        if self.file is not None and not self.file.exists():
            # The tables take seconds to make: the file appears when it has them all.
            with atomic_file(self.file.absolute()) as temporary:
                MlflowClient(f"sqlite:///{temporary}", f"sqlite:///{temporary}").search_experiments(max_results=1)
        return MlflowClient(self.uri, self.uri)

    def _check(self, file: Path) -> None:
        kept = file.parent / ARTIFACTS
        if file.exists() and not file.stat().st_size and kept.is_dir() and any(kept.iterdir()):
            raise ArtifactError(
                f"registry {file}",
                expected=f"the database of what lies in {kept}",
                received="an empty file",
                hint="Nothing was changed. Restore it from a copy.",
            )
        sqlite_file.check(file, "registry", _TABLE)

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self.config.experiment)
        if found is not None:
            return str(found.experiment_id)
        place = None if self.file is None else str(self.file.parent.absolute() / ARTIFACTS)
        return str(self._client.create_experiment(self.config.experiment, artifact_location=place))

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Turn what MLflow and its database raise into one error of ours."""
        try:
            with warnings.catch_warnings():
                # MLflow calls what SQLAlchemy 2.1 deprecates.
                warnings.simplefilter("ignore", DeprecationWarning)
                yield
        except MewsError:
            raise
        except Exception as error:  # MLflow raises its own, SQLAlchemy's, requests' and OSError
            raise ArtifactError(
                f"registry {self.uri}",
                expected="MLflow to answer",
                received=_told(error),
                hint="Versions that were registered are as they were.",
            ) from error


def _log_file(client: Any, run_id: str, path: Path, place: str) -> None:
    if path.is_dir():
        client.log_artifacts(run_id, str(path), place)
        return
    folder, _, name = place.rpartition("/")
    if name != path.name:
        raise ValueError(f"{path} is to be kept as {place}: the names differ")
    client.log_artifact(run_id, str(path), folder or None)


def _metric_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "_-. /:" else "_" for letter in name)


def _told(error: Exception) -> str:
    """The first line of an error, cut, and the system's own error if it came from one."""
    root: BaseException = error
    while (cause := root.__cause__ or root.__context__) is not None:
        root = cause
    line = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    short = line if len(line) <= _LINE else f"{line[:_LINE]}..."
    return f"{short} ({root})" if isinstance(root, OSError) and root is not error else short
