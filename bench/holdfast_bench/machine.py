"""The machine: what it is, who else uses it, and where the measured processes may run."""
import os
import platform
import shutil

TICKS = os.sysconf("SC_CLK_TCK")


def busy_seconds():
    """CPU seconds of everything on this machine since its start; time stolen by the host counts as somebody else's."""
    with open("/proc/stat") as file:
        fields = file.readline().split()
    return sum(int(fields[i]) for i in (1, 2, 3, 6, 7, 8)) / TICKS


def process_seconds(pid):
    """CPU seconds of all threads of a process, in nanosecond steps where the kernel has them."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                total += int(file.read().split()[0])
        except FileNotFoundError:
            pass  # a thread that has just ended
    return total / 1e9


def resident_bytes(pid):
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


class Placement:
    """Which CPU the server, and which the client gets; None leaves both to the scheduler."""

    def __init__(self, server=None, client=None, nice=0):
        self.server, self.client, self.nice = server, client, nice

    @classmethod
    def parse(cls, text, nice):
        if text == "none":
            return cls(nice=nice)
        server, client = text.split(",")
        return cls(int(server), int(client), nice)

    @staticmethod
    def default():
        cpus = sorted(os.sched_getaffinity(0))
        return f"{cpus[0]},{cpus[1]}" if len(cpus) > 1 and shutil.which("taskset") else "none"

    def free(self):
        """The same, not pinned."""
        return Placement(nice=self.nice)

    def _wrap(self, cpu, command):
        if self.nice:
            command = ["nice", "-n", str(self.nice), *command]
        return command if cpu is None else ["taskset", "-c", str(cpu), *command]

    def for_server(self, command):
        return self._wrap(self.server, command)

    def for_client(self, command):
        return self._wrap(self.client, command)

    def __str__(self):
        pinned = "not pinned" if self.server is None else f"server on CPU {self.server}, client on CPU {self.client}"
        return pinned + (f", nice {self.nice}" if self.nice else "")


class Others:
    """How much CPU processes that are not ours use between two points, as a share of the machine."""

    def __init__(self, pids):
        self.pids = pids
        self.start = self._now()

    def _now(self):
        ours = sum(process_seconds(pid) for pid in self.pids)
        times = os.times()
        # Children that have ended: the load generators.
        ours += times.children_user + times.children_system + times.user + times.system
        return times.elapsed, busy_seconds() - ours

    def share(self):
        elapsed, foreign = (after - before for after, before in zip(self._now(), self.start))
        return max(0.0, foreign / (elapsed * os.cpu_count())) if elapsed > 0 else 0.0


def describe():
    with open("/proc/cpuinfo") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) / (1 << 20)
    with open("/proc/sys/vm/overcommit_memory") as file:
        overcommit = file.read().strip()
    huge = "unknown"
    if os.path.exists("/sys/kernel/mm/transparent_hugepage/enabled"):
        with open("/sys/kernel/mm/transparent_hugepage/enabled") as file:
            huge = file.read().split("[")[-1].split("]")[0]
    return (
        f"{os.cpu_count()} × {models[0] if models else platform.machine()}, {memory:.0f} GiB, Linux {platform.release()}, "
        f"vm.overcommit_memory={overcommit}, transparent huge pages: {huge}"
    )
