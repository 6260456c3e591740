"""Client and remote worker of the sched replicated task scheduler.

>>> from sched_client import Client
>>> from sched_client.tasks import SampleOneShotTask
>>> client = Client()  # doctest: +SKIP
>>> client.enqueue(SampleOneShotTask())  # doctest: +SKIP
Accepted(id=1, …)
"""

from . import errors, tasks
from .client import Accepted, Client, Progress, Run, SpoolOp, Status, TaskInfo
from .errors import SchedError
from .worker import Cancelled, DelayMe, Job, Worker

__all__ = [
    "Accepted",
    "Cancelled",
    "Client",
    "DelayMe",
    "Job",
    "Progress",
    "Run",
    "SchedError",
    "SpoolOp",
    "Status",
    "TaskInfo",
    "Worker",
    "errors",
    "tasks",
]
