"""An interrupt hits the function it is meant for, or nothing."""

from __future__ import annotations

import subprocess
import sys

STRESS = """
import random, sys, threading, time
from elektronn_tui.session.gate import Gate

gate = Gate()
gate.install()
random_numbers = random.Random(int(sys.argv[1]))
sent, outside, hit, whole, token = 0, 0, 0, 0, 0

def ask():
    global sent
    while sent < 1000:
        time.sleep(random_numbers.random() * 2e-3)
        gate.interrupt(gate.token)  # read at any moment, inside or outside
        sent += 1

sys.setswitchinterval(2e-5)
asker = threading.Thread(target=ask)
asker.start()
while asker.is_alive():
    try:
        total = 0
        for i in range(random_numbers.randrange(1, 3000)):  # a training step
            total += i * i
        time.sleep(0)
    except KeyboardInterrupt:
        outside += 1
    try:
        token += 1
        count = random_numbers.choice([0, 1, 3, 10, 1000, 20000])
        def statement():
            total = 0
            for i in range(count):
                total += i
        if gate.run(token, statement):
            whole += 1
        else:
            hit += 1
    except KeyboardInterrupt:
        outside += 1
asker.join()
time.sleep(0.05)
print(sent, outside, hit > 0, whole > 0)
"""

BLOCKING = """
import threading, time
from elektronn_tui.session.gate import Gate

gate = Gate()
gate.install()
for token, block in enumerate([lambda: time.sleep(60), threading.Event().wait, threading.Lock().acquire], 1):
    if token == 3:
        lock = threading.Lock()
        lock.acquire()
        block = lock.acquire
    started = threading.Event()
    def statement():
        started.set()
        block()
    threading.Thread(target=lambda: (started.wait(), gate.interrupt(token))).start()
    print(gate.run(token, statement))

def stubborn():
    try:
        started.set()
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(60)
def twice():
    started.wait()
    gate.interrupt(9)
    time.sleep(2 * gate.AGAIN)
    gate.interrupt(9)
started = threading.Event()
threading.Thread(target=twice).start()
print(gate.run(9, stubborn))
gate.interrupt(9)  # too late: it is over
print(gate.run(10, lambda: time.sleep(0.01)))
def told_of_another():
    gate.interrupt(9)  # meant for one that is over
    time.sleep(0.01)
print(gate.run(11, told_of_another))
gate.interrupt(12)  # too early: it begins now
print(gate.run(12, lambda: time.sleep(60)))
"""


def test_of_three_thousand_interrupts_none_hits_a_step() -> None:
    for seed in range(3):
        output = subprocess.check_output([sys.executable, "-c", STRESS, str(seed)], text=True, timeout=120)
        assert output.split() == ["1000", "0", "True", "True"]


def test_what_blocks_is_interrupted_and_what_goes_on_can_be_again() -> None:
    output = subprocess.check_output([sys.executable, "-c", BLOCKING], text=True, timeout=60)
    assert output.split() == ["False", "False", "False", "False", "True", "True", "False"]
