#!/usr/bin/env python3
"""Random recurrence rules with the answers python-dateutil gives, as JSON lines.

    scripts/setup.sh test
    .tools/dateutil/bin/python core/testdata/rrule_oracle.py --seed 7 --count 1000 [--freq MINUTELY] > cases.jsonl
    SCHED_RRULE_CASES=$PWD/cases.jsonl cargo test -p sched-core --test schedule equals_python_dateutil

Each line:
  {"dtstart": "2026-01-07T12:00:00Z", "rrule": "FREQ=…", "rdate": […], "exdate": […],
   "first": [up to 8 occurrences], "after": [[T, next strictly after T or null], …], "verdict": "ok" | "impossible" | "slow"}

All times are UTC. "impossible": dateutil refuses the rule or finds nothing before the year 2200.
"slow": dateutil itself needed more than the time limit; such a line carries no answers and is only an input for robustness tests.
Each case has a random generator of its own, so that what is slow on one machine does not change the cases after it.
Covered: all seven frequencies; INTERVAL, COUNT, UNTIL, WKST; BYMONTH, BYMONTHDAY, BYYEARDAY, BYWEEKNO, BYDAY with ordinals,
BYHOUR, BYMINUTE, BYSECOND, BYSETPOS, BYEASTER; RDATE and EXDATE. dtstart from 1975 to 2027; query points up to 40 years later.
"""
import argparse, json, random, signal
from datetime import datetime, timedelta
from dateutil import rrule as R

FREQS = ["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"]
DAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]
HORIZON = datetime(2200, 1, 1)


class Slow(Exception):
    pass


def _alarm(*_):
    raise Slow()


def some(rnd, lo, hi, most, negative=False, step=None):
    values = set()
    for _ in range(rnd.randint(1, most)):
        v = rnd.randrange(lo, hi + 1, step or 1)
        if negative and v and rnd.random() < 0.25:
            v = -v
        values.add(v)
    return sorted(values)


def make_rule(rnd, freq):
    """A rule as a dict of RRULE parts; mostly sensible, sometimes strange."""
    parts = {"FREQ": freq}
    fi = FREQS.index(freq)
    if rnd.random() < 0.5:
        top = [6, 18, 12, 60, 72, 600, 7200][fi]
        parts["INTERVAL"] = rnd.choice([2, 3, rnd.randint(2, top)])
    if rnd.random() < 0.3:
        parts["WKST"] = rnd.choice(DAYS)
    if rnd.random() < 0.35:
        parts["BYMONTH"] = some(rnd, 1, 12, 4)
    if rnd.random() < 0.3 and freq != "WEEKLY":
        parts["BYMONTHDAY"] = some(rnd, 1, 31, 4, negative=True)
    if freq in ("YEARLY", "HOURLY", "MINUTELY", "SECONDLY") and rnd.random() < 0.12:
        parts["BYYEARDAY"] = some(rnd, 1, 366, 4, negative=True)
    if freq == "YEARLY" and rnd.random() < 0.12:
        parts["BYWEEKNO"] = some(rnd, 1, 53, 3, negative=True)
    if freq == "YEARLY" and rnd.random() < 0.06:
        parts["BYEASTER"] = some(rnd, -60, 60, 2)
    if rnd.random() < 0.45:
        days = rnd.sample(DAYS, rnd.randint(1, 4))
        if freq in ("YEARLY", "MONTHLY") and "BYWEEKNO" not in parts and rnd.random() < 0.5:
            top = 5 if (freq == "MONTHLY" or "BYMONTH" in parts) else 53
            days = [f"{rnd.choice([-1, 1]) * rnd.randint(1, top)}{d}" for d in days]
        parts["BYDAY"] = days
    if rnd.random() < (0.5 if fi >= 4 else 0.3):
        parts["BYHOUR"] = some(rnd, 0, 23, 3)
    if rnd.random() < (0.4 if fi >= 5 else 0.25):
        parts["BYMINUTE"] = some(rnd, 0, 59, 3)
    if rnd.random() < (0.4 if fi >= 6 else 0.2):
        parts["BYSECOND"] = some(rnd, 0, 59, 3)
    if rnd.random() < 0.12 and any(k.startswith("BY") for k in parts):
        parts["BYSETPOS"] = some(rnd, 1, 4, 2, negative=True)
    return parts


def text(parts):
    return ";".join(f"{k}={','.join(map(str, v)) if isinstance(v, list) else v}" for k, v in parts.items())


def iso(t):
    return None if t is None else t.strftime("%Y-%m-%dT%H:%M:%SZ")


def case(rnd, freq, limit_s):
    start = datetime(1975, 1, 1) + timedelta(seconds=rnd.randrange(0, 52 * 365 * 86400))
    if rnd.random() < 0.5:
        start = start.replace(minute=rnd.choice([0, 15, 30, 45]), second=0)
    parts = make_rule(rnd, freq)
    if rnd.random() < 0.2:
        parts["COUNT"] = rnd.choice([1, 3, 10, rnd.randint(1, 500)])
    elif rnd.random() < 0.15:
        parts["UNTIL"] = (start + timedelta(seconds=rnd.randrange(60, 20 * 365 * 86400))).strftime("%Y%m%dT%H%M%SZ")
    row = {"dtstart": iso(start), "rrule": text(parts), "rdate": [], "exdate": [], "first": [], "after": [], "verdict": "ok"}
    # The process's own time: other work on the machine does not count.
    signal.signal(signal.SIGVTALRM, _alarm)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit_s)
    try:
        rule = R.rrulestr(text(parts).replace("Z", "") if "UNTIL" in parts else text(parts), dtstart=start)
        first = []
        for t in rule:
            if t > HORIZON or len(first) == 8:
                break
            first.append(t)
        if not first:
            row["verdict"] = "impossible"
            return row
        source = rule
        if rnd.random() < 0.12:
            rs = R.rruleset(); rs.rrule(rule)
            for _ in range(rnd.randint(0, 3)):
                d = start + timedelta(seconds=rnd.randrange(0, 3 * 365 * 86400)); rs.rdate(d); row["rdate"].append(iso(d))
            for d in rnd.sample(first, min(len(first), rnd.randint(0, 2))):
                rs.exdate(d); row["exdate"].append(iso(d))
            source, first = rs, []
            for t in rs:
                if t > HORIZON or len(first) == 8:
                    break
                first.append(t)
        row["first"] = [iso(t) for t in first]
        reach = {"HOURLY": 900, "MINUTELY": 20, "SECONDLY": 1}.get(freq, 40 * 365)  # days dateutil can walk in time
        for _ in range(4):
            t = start + timedelta(seconds=rnd.randrange(-86400, reach * 86400))
            n = source.after(t, inc=False)
            row["after"].append([iso(t), iso(n) if n is None or n <= HORIZON else None])
        for t in first[:2]:
            row["after"].append([iso(t), iso(source.after(t, inc=False))])
    except Slow:
        row.update(first=[], after=[], verdict="slow")
    except (ValueError, OverflowError):
        row.update(first=[], after=[], verdict="impossible")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return row


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seed", type=int, required=True)
    p.add_argument("--count", type=int, default=1000)
    p.add_argument("--freq", choices=FREQS)
    p.add_argument("--limit-s", type=float, default=1.0, help="time dateutil may take for one rule")
    p.add_argument("--answered", action="store_true", help="leave slow cases out, and count only the others")
    a = p.parse_args()
    number = printed = 0
    while printed < a.count:
        rnd = random.Random(f"{a.seed}/{number}")
        number += 1
        try:
            row = case(rnd, a.freq or rnd.choice(FREQS), a.limit_s)
        except Slow:  # time was up in the moment in which the alarm was switched off
            continue
        if a.answered and row["verdict"] == "slow":
            continue
        print(json.dumps(row), flush=True)
        printed += 1


if __name__ == "__main__":
    main()
