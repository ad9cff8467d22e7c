"""What a reading process does first: it leaves signals to the run, and ends with it."""

import os
import signal
import threading
import time

# What a terminal or SLURM sends to every process of a run, and the run answers: it
# saves, for which it may need more batches. It ends its readers by SIGKILL.
LEFT_TO_THE_RUN = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
PERIOD = 1.0  # seconds between two looks for the run


def prepare(index: int = 0, count: int = 1) -> None:
    """To be called in the new process, as grain's `worker_init_fn`.

    Without it a run that is killed would leave its readers behind for ever.
    """
    del index, count
    for one in LEFT_TO_THE_RUN:
        signal.signal(one, signal.SIG_IGN)
    run = os.getppid()
    threading.Thread(target=_end_with, args=(run,), daemon=True).start()


def _end_with(run: int) -> None:
    while os.getppid() == run:
        time.sleep(PERIOD)
    os._exit(1)
