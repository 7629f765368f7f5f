"On PYTHONPATH in the clock cases of `make faults`: the wall clock of a Python process, and of those that it starts, is FAULTS_CLOCK seconds off."

import os
import time

import time_machine

time_machine.travel(
    time.time() + float(os.environ["FAULTS_CLOCK"]), tick=True
).start()  # time.monotonic and waiting stay as they are
