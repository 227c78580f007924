"""Memory of everything that happened, and random windows out of it.

Every environment has a ring: rows are written in order of time, and when the ring is full the
oldest row makes room for the newest. A window is a run of consecutive rows of one ring.

    ring of 8    [8] [9] [10] [3] [4] [5] [6] [7]        row 11 will overwrite row 3
                          ^newest  ^oldest               windows never cross this line

Legend: N environments (rings), B windows in a batch, T rows in a window, A action dimensions,
D size of the deterministic state, S number of latents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from wmlib.errors import BadInput
from wmlib.spaces import Space, Tree, classes, each, obs_kind, storage

if TYPE_CHECKING:
    from wmlib.envs.rows import FinalRows, Row

__all__ = ["Replay"]

FLAGS = ("reward", "is_first", "is_last", "is_terminal")
LATENTS = ("deter", "stoch")  # they change after they were written; see `Replay.refresh`
BLOCK = 2**24  # bytes of rows that are saved together; see `Replay.block`

# what may be given for each kind of entry, as NumPy's one-letter kinds of types
KINDS = {"floats": "f", "integers": "iu", "bool": "b", "uint8": "u"}


class Field(NamedTuple):
    """One entry of a row as it is stored, and what may be given for it."""

    shape: tuple[int, ...]
    dtype: type
    kind: str  # one of KINDS


def row_fields(
    obs_space: Space, act_space: Space, latents: tuple[int, int] | None
) -> dict[str, Field]:
    """Return name -> Field of everything that is stored per row.

    Raises:
        BadInput: a space that is neither a Discrete nor a Box.
    """
    names = {np.int64: "integers", np.uint8: "uint8", np.float32: "floats"}
    fields = {}
    for name, space in (*obs_spaces(obs_space).items(), ("action", act_space)):
        shape, dtype = storage(space)
        fields[name] = Field(shape, dtype, names[dtype])
    fields["reward"] = Field((), np.float32, "floats")
    for name in ("is_first", "is_last", "is_terminal"):
        fields[name] = Field((), np.bool_, "bool")
    if latents is not None:
        fields["deter"] = Field((latents[0],), np.float16, "floats")
        fields["stoch"] = Field((latents[1],), np.uint8, "integers")
    return fields


def obs_spaces(space: Space) -> dict[str, Space]:
    """Return field -> space of what is observed: "obs", or "obs.camera" and the like of a Dict."""
    if obs_kind(space) != "dict":
        return {"obs": space}
    return {f"obs.{key}": part for key, part in space.spaces.items()}


def obs_names(space: Space) -> Tree:
    """The names of `obs_spaces`, arranged as an observation is: "obs", or a dict of names."""
    if obs_kind(space) != "dict":
        return "obs"
    return {key: f"obs.{key}" for key in space.spaces}


def flat_obs(space: Space, obs: Tree, prefix: str = "") -> dict[str, Any]:
    """Return field -> array of an observation.

    Raises:
        BadInput: the space is a Dict and this is no dict with its keys.
    """
    found: dict[str, Any] = {}
    names = obs_names(space)
    try:
        each(found.__setitem__, names, obs)
    except (KeyError, TypeError, IndexError):
        text = f"{prefix}obs must be a dict of {', '.join(names)}, not {type(obs).__name__}"
        given = f" of {', '.join(map(str, obs))}" if isinstance(obs, dict) else ""
        raise BadInput(f"{text}{given}.") from None
    return found


def check_array(name: str, value: Any, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """Return `value` as an array if it has this shape and one of the KINDS of numbers.

    Raises:
        BadInput: anything else.
    """
    array = np.asarray(value)
    allowed = array.dtype.kind in KINDS[kind] and (kind != "uint8" or array.dtype == np.uint8)
    if array.shape != shape or not allowed:
        raise BadInput(
            f"{name} must be {kind} of shape {shape}, not {array.dtype} of shape {array.shape}."
        )
    return array


def check_range(name: str, array: np.ndarray, count: int | np.ndarray) -> None:
    """Raise BadInput unless all of these integers lie in 0 ... count - 1."""
    if array.size and (array.min() < 0 or (array >= count).any()):
        bad = array.max() if array.min() >= 0 else array.min()
        raise BadInput(f"{name} must be from 0 to {np.max(count) - 1}, not {bad}.")


class Replay:
    """Rings of rows, one per environment, and uniform windows of `length` rows out of them.

    The rings hold at most `capacity_rows` rows and `capacity_bytes` bytes in all (an image of
    64 × 64 × 3 takes 12 kB: a million of them 12.3 GB). Memory is taken as it is needed.

    `latents` = (D, S) also stores the model's state after each row, h as float16 and z as S class
    indices, so that a window can begin where the model was instead of with an empty memory.

    Raises:
        BadInput: the capacity is too small for one window, or a space is not supported.
    """

    def __init__(
        self,
        obs_space: Space,
        act_space: Space,
        num_envs: int,
        length: int,
        capacity_bytes: int = 2**30,
        capacity_rows: int = 5_000_000,
        latents: tuple[int, int] | None = None,
        seed: int = 0,
    ) -> None:
        if num_envs < 1 or length < 1:
            raise BadInput(f"num_envs and length must be at least 1, not {num_envs} and {length}.")
        self.obs_space = obs_space
        self.act_space = act_space
        self.num_envs = num_envs
        self.length = length
        self.latents = latents
        self.fields = row_fields(obs_space, act_space, latents)
        self.window = length + (latents is not None)  # with latents, one row more to start from
        bytes_per_row = sum(
            int(np.prod(field.shape)) * np.dtype(field.dtype).itemsize
            for field in self.fields.values()
        )
        self.capacity = min(capacity_rows, capacity_bytes // bytes_per_row) // num_envs  # per ring
        if self.capacity < self.window:
            raise BadInput(
                f"A replay of {capacity_rows} rows and {capacity_bytes} bytes keeps "
                f"{self.capacity} rows for each of {num_envs} environments ({bytes_per_row} bytes "
                f"per row); a window needs {self.window}."
            )
        self.rng = np.random.default_rng(seed)
        self.written = np.zeros(num_envs, np.int64)  # rows ever written to each ring
        self.block_rows = max(1, BLOCK // (bytes_per_row * num_envs))  # of each ring
        self.changed: set[int] = set()  # blocks written to since somebody cleared this
        self.data = self._zeros(self.num_envs, min(self.capacity, max(64, self.window)))

    # ------------------------------------------------------------ size

    @property
    def size(self) -> np.ndarray:
        """Rows in each ring, (N,) int64."""
        return np.minimum(self.written, self.capacity)

    def __len__(self) -> int:
        return int(self.size.sum())

    @property
    def starts(self) -> int:
        """Number of different windows."""
        return int(self._starts().sum())

    @property
    def nbytes(self) -> int:
        """Bytes of memory taken so far."""
        return sum(array.nbytes for array in self.data.values())

    def _starts(self) -> np.ndarray:
        return np.maximum(self.size - self.window + 1, 0)  # (N,)

    # ------------------------------------------------------------ write

    def add(
        self,
        row: Row,
        action: np.ndarray,
        deter: np.ndarray | None = None,
        stoch: np.ndarray | None = None,
    ) -> None:
        """Append one row per environment, with the action chosen after it.

        action (N,) integers or (N, A) floats; deter (N, D) and stoch (N, S) the model's state after
        seeing the row, if latents are stored. `row.final`, if any, goes first. A last row has no
        action: zeros are stored whatever is given.

        Raises:
            BadInput: a wrong shape, type or index; nothing is written then.
        """
        batches = [] if row.final is None else [self._checked_final(row.final)]
        given = {"action": action, "deter": deter, "stoch": stoch}
        batches.append((np.arange(self.num_envs), self._checked(row, self.num_envs, "", given)))
        for envs, values in batches:
            self._write(envs, values)

    def _checked_final(self, final: FinalRows) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the rings of final rows, and the rows with zeros for what the agent adds."""
        count = len(final.reward)
        envs = check_array("final.envs", final.envs, (count,), "integers")
        check_range("final.envs", envs, self.num_envs)
        if len(np.unique(envs)) < count:
            raise BadInput(f"final.envs must be different, not {envs.tolist()}.")
        zeros = self._zeros(count)
        given = {k: zeros[k] for k in ("action", "deter", "stoch") if k in zeros}
        return envs, self._checked(final, count, "final.", given)

    def _checked(
        self, row: Row | FinalRows, count: int, prefix: str, given: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """Return the `count` rows as arrays, ready to be written, or raise BadInput."""
        if self.latents is None and any(given.get(k) is not None for k in ("deter", "stoch")):
            raise BadInput("This replay stores no latents; create it with latents=(deter, stoch).")
        values = {name: getattr(row, name) for name in FLAGS} | given
        values |= flat_obs(self.obs_space, row.obs, prefix)
        values = {
            name: check_array(prefix + name, values[name], (count, *field.shape), field.kind)
            for name, field in self.fields.items()
        }
        for name, space in (*obs_spaces(self.obs_space).items(), ("action", self.act_space)):
            if self.fields[name].kind == "integers":
                check_range(prefix + name, values[name], classes(space))
        if self.latents is not None:
            check_range(prefix + "stoch", values["stoch"], 256)
        action = values["action"].copy()
        action[values["is_last"]] = 0
        return values | {"action": action}

    def _write(self, envs: np.ndarray, values: dict[str, np.ndarray]) -> None:
        """Write one row to each of these rings."""
        self._reserve(int(self.written[envs].max(initial=0)) + 1)
        place = self.written[envs] % self.capacity
        for name, array in self.data.items():
            array[envs, place] = values[name]
        self.written[envs] += 1
        self.changed.update((place // self.block_rows).tolist())

    def _zeros(self, *batch: int) -> dict[str, np.ndarray]:
        return {
            name: np.zeros((*batch, *field.shape), field.dtype)
            for name, field in self.fields.items()
        }

    def _reserve(self, rows: int) -> None:
        """Make room for `rows` rows per ring: double the memory until the capacity is reached.

        Until then no ring has wrapped around, so what is there keeps its place.
        """
        have = self.data["reward"].shape[1]
        if have >= min(rows, self.capacity):
            return
        larger = self._zeros(self.num_envs, min(self.capacity, max(rows, 2 * have)))
        for name, array in self.data.items():
            larger[name][:, :have] = array
        self.data = larger

    # ------------------------------------------------------------ read

    def sample(self, batch: int) -> dict[str, np.ndarray]:
        """Draw `batch` windows, every possible one equally likely.

        obs (B, T, ...) · reward, is_first, is_last, is_terminal (B, T) · action, prev_action
        (B, T[, A]), prev_action[t] being the action of row t - 1 · index (B, T) for `refresh`.

        Without latents the first row of a window counts as the first of an episode. With them a
        window is preceded by one row that supplies its state, deter (B, D) float32 and stoch (B, S)
        int64, and the first prev_action; the T rows keep their own flags.

        Raises:
            BadInput: there is no window yet.
        """
        env, place = self._draw(batch)  # (B,), (B, W)
        context = self.window - self.length
        env = env[:, None]
        rows = place[:, context:]  # (B, 1), (B, T)
        obs = each(lambda name: self.data[name][env, rows], obs_names(self.obs_space))
        out = {"obs": obs, **{name: self.data[name][env, rows] for name in FLAGS}}
        out["index"] = env * self.capacity + rows
        actions = self.data["action"][env, place]  # (B, W[, A])
        out["action"] = actions[:, context:]
        if self.latents is None:
            out["prev_action"] = np.zeros_like(actions)
            out["prev_action"][:, 1:] = actions[:, :-1]
            out["is_first"][:, 0] = True
        else:
            out["prev_action"] = actions[:, :-1].copy()
            out["deter"] = self.data["deter"][env[:, 0], place[:, 0]].astype(np.float32)
            out["stoch"] = self.data["stoch"][env[:, 0], place[:, 0]].astype(np.int64)
        # an episode that was abandoned has no last row of its own: the next one's first row tells
        out["is_last"][:, :-1] |= out["is_first"][:, 1:]
        return out

    def _draw(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw windows: their rings (B,) and the places of their rows in them (B, W)."""
        starts = self._starts()
        upto = starts.cumsum()  # (N,)
        if batch < 1 or upto[-1] == 0:
            raise BadInput(
                f"Cannot draw {batch} windows of {self.window} rows: the replay has {upto[-1]} "
                f"of them in {len(self)} rows."
            )
        number = self.rng.integers(upto[-1], size=batch)  # of a window, counted ring after ring
        env = np.searchsorted(upto, number, side="right")
        age = number - (upto - starts)[env]  # of its first row, from the oldest row of the ring
        oldest = (self.written - self.size)[env]
        time = (oldest + age)[:, None] + np.arange(self.window)
        return env, time % self.capacity

    def refresh(self, index: np.ndarray, deter: np.ndarray, stoch: np.ndarray) -> None:
        """Overwrite the latents of sampled rows with newer ones, before anything else is added.

        index (B, T) as `sample` gave it, deter (B, T, D), stoch (B, T, S).

        Raises:
            BadInput: wrong shapes or types, or a replay without latents; nothing is written then.
        """
        if self.latents is None:
            raise BadInput("This replay stores no latents; create it with latents=(deter, stoch).")
        index = check_array("index", index, np.shape(index), "integers")
        check_range("index", index, self.num_envs * self.capacity)
        env, place = np.divmod(index, self.capacity)
        values = {"deter": deter, "stoch": stoch}
        for name, value in values.items():
            field = self.fields[name]
            values[name] = check_array(name, value, (*index.shape, *field.shape), field.kind)
        check_range("stoch", values["stoch"], 256)
        for name, value in values.items():
            self.data[name][env, place] = value

    # ------------------------------------------------------------ save and resume

    @property
    def blocks(self) -> int:
        """Number of blocks in use."""
        return -(-int(self.size.max()) // self.block_rows)

    def block(self, number: int) -> dict[str, np.ndarray]:
        """Views of the rows of one block, all but their latents.

        A block is `block_rows` successive places of every ring. `changed` tells which blocks have
        new rows, so that what was saved before need not be saved again.
        """
        return {name: array for name, array in self._block(number).items() if name not in LATENTS}

    def _block(self, number: int) -> dict[str, np.ndarray]:
        end = min((number + 1) * self.block_rows, int(self.size.max()))
        return {name: array[:, number * self.block_rows : end] for name, array in self.data.items()}

    def load_block(self, number: int, rows: dict[str, np.ndarray]) -> None:
        """Restore what `block` gave, after `load_state_dict`.

        Raises:
            BadInput: it is of a replay of another shape; nothing is changed then.
        """
        mine = self.block(number)
        found = {name: array.shape for name, array in rows.items()}
        if found != (shapes := {name: array.shape for name, array in mine.items()}):
            raise BadInput(f"Block {number} of the saved replay holds {found}, not {shapes}.")
        for name, array in mine.items():
            array[:] = rows[name]

    def state_dict(self, rows: bool = True) -> dict[str, Any]:
        """Return copies of everything stored, and the state of the random generator.

        Nested dicts of arrays, ints and strings; the rows ever used only, not all of the memory.
        With rows=False only their latents: the rest is for `block`.
        """
        used = int(self.size.max())
        names = [name for name in self.data if rows or name in LATENTS]
        return {
            "capacity": self.capacity,
            "written": self.written.copy(),
            "rng": self.rng.bit_generator.state,
            "data": {name: self.data[name][:, :used].copy() for name in names},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave: the next samples are those that would have come.

        Where that was without rows, `load_block` must follow for every block.

        Raises:
            BadInput: it is of a replay of another shape; nothing is changed then.
        """
        used = int(np.minimum(state["written"], self.capacity).max())
        shapes = {name: (self.num_envs, used, *f.shape) for name, f in self.fields.items()}
        latents = {name: shape for name, shape in shapes.items() if name in LATENTS}
        found = {name: array.shape for name, array in state.get("data", {}).items()}
        if found not in (shapes, latents) or int(state["capacity"]) != self.capacity:
            raise BadInput(
                f"The saved replay holds {found} in rings of {state['capacity']} rows; "
                f"this one needs {shapes} in rings of {self.capacity}."
            )
        self.written = np.array(state["written"], np.int64)
        self.rng.bit_generator.state = state["rng"]
        self.data = self._zeros(self.num_envs, min(self.capacity, max(64, self.window, used)))
        for name, array in state.get("data", {}).items():
            self.data[name][:, :used] = array
        self.changed = set(range(self.blocks))
