"""What can go wrong, by name. The command line turns each into one line and exit code 2."""


class DcgenError(Exception):
    """Base of every error a user can cause or mend. The message names the file, the place and the remedy."""


class ScenarioError(DcgenError):
    """A scenario, route or trajectory file that cannot be used."""


class MapError(DcgenError):
    """A road network that cannot be read, or that lacks what the route needs."""


class CheckpointError(DcgenError):
    """Weights that are missing, truncated, tampered with or of another shape."""


class Stopped(DcgenError):
    """A run that was asked to end (SIGTERM), and did so after it saved."""


class GridMismatch(DcgenError):
    """Two occupancies, or an occupancy and a model, that live in different grids."""


class SceneError(DcgenError):
    """A scene file that cannot be read or written."""


class WorldError(DcgenError):
    """A world that cannot be built, read or simulated."""


class DatasetError(DcgenError):
    """A data set of clips that cannot be built, read or written."""


class CarlaError(DcgenError):
    """A CARLA server that cannot be reached, understood or recorded from."""


class PlannerError(DcgenError):
    """A planner that cannot be loaded or asked, or that asks for what dcgen cannot give."""


class MissingExtra(DcgenError):
    """An optional package that this command needs is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}: pip install 'dcgen[{extra}]'")
