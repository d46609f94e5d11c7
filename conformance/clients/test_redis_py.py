"""redis-py against a server at HOLDFAST_ADDRESS (host:port) with the password HOLDFAST_PASSWORD.

Each test runs with both versions of the protocol. What is checked is what an application sees: types and values after the
client has parsed them.
"""
import asyncio
import os
import threading
import time
import unittest

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

HOST, PORT = os.environ["HOLDFAST_ADDRESS"].rsplit(":", 1)
PASSWORD = os.environ["HOLDFAST_PASSWORD"]
# For whatever takes milliseconds; no test waits as long unless the server is broken.
PATIENCE_SECONDS = 20
# What fails is not tried again after a pause.
ONCE = Retry(NoBackoff(), 0)


def connect(protocol, **options):
    options = {"password": PASSWORD, "decode_responses": True, "socket_timeout": PATIENCE_SECONDS, **options}
    return redis.Redis(HOST, int(PORT), protocol=protocol, **options)


def wait_until(holds):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.005)


class Client:
    """The tests; the classes below choose the protocol."""

    protocol = None

    def setUp(self):
        self.client = connect(self.protocol)
        self.addCleanup(self.client.close)
        self.client.flushall()

    def another(self, **options):
        client = connect(self.protocol, **options)
        self.addCleanup(client.close)
        return client

    def test_strings(self):
        r = self.client
        self.assertTrue(r.set("greeting", "hello"))
        self.assertEqual(r.get("greeting"), "hello")
        self.assertIsNone(r.set("greeting", "other", nx=True))
        self.assertEqual(r.set("greeting", "good day", get=True, ex=100), "hello")
        self.assertTrue(0 < r.ttl("greeting") <= 100)
        self.assertTrue(r.persist("greeting"))
        self.assertEqual(r.ttl("greeting"), -1)
        self.assertEqual(r.append("greeting", "!"), 9)
        self.assertEqual(r.getrange("greeting", 0, 3), "good")
        self.assertEqual(r.incrby("counter", 5), 5)
        self.assertEqual(r.incrbyfloat("counter", 0.5), 5.5)
        self.assertTrue(r.mset({"a": 1, "b": 2}))
        self.assertEqual(r.mget("a", "missing", "b"), ["1", None, "2"])
        self.assertEqual(r.getdel("a"), "1")
        self.assertEqual(r.exists("a", "b"), 1)
        self.assertEqual(r.bitcount("b"), 3)
        with self.assertRaisesRegex(redis.ResponseError, "not an integer"):
            r.incr("greeting")

    def test_every_byte_of_keys_and_values_comes_back(self):
        r = self.another(decode_responses=False)
        every = bytes(range(256))
        long = every * 8192
        r.set(every, long)
        self.assertEqual(r.keys(), [every])
        self.assertEqual(r.get(every), long)
        r.restore(b"copy", 0, r.dump(every))
        self.assertEqual(r.get(b"copy"), long)

    def test_hashes(self):
        r = self.client
        self.assertEqual(r.hset("h", mapping={"name": "Alice", "orders": 3}), 2)
        self.assertEqual(r.hgetall("h"), {"name": "Alice", "orders": "3"})
        self.assertEqual(r.hincrby("h", "orders", 2), 5)
        self.assertEqual(r.hincrbyfloat("h", "spent", 2.5), 2.5)
        self.assertEqual(r.hmget("h", "name", "missing"), ["Alice", None])
        self.assertEqual(r.hdel("h", "spent", "missing"), 1)
        self.assertEqual(sorted(r.hkeys("h")), ["name", "orders"])
        self.assertEqual(len(r.hrandfield("h", 2)), 2)
        self.assertFalse(r.hexists("h", "spent"))

    def test_lists(self):
        r = self.client
        self.assertEqual(r.rpush("l", "b", "c", "d", "b"), 4)
        self.assertEqual(r.lpush("l", "a"), 5)
        self.assertEqual(r.lrange("l", 0, -1), ["a", "b", "c", "d", "b"])
        self.assertEqual(r.lpos("l", "b", rank=-1), 4)
        self.assertEqual(r.linsert("l", "before", "c", "x"), 6)
        self.assertEqual(r.lrem("l", 0, "b"), 2)
        self.assertEqual(r.lmove("l", "other", "LEFT", "RIGHT"), "a")
        self.assertEqual(r.lpop("l", 2), ["x", "c"])
        self.assertEqual(r.lmpop(2, "missing", "l", direction="LEFT"), ["l", ["d"]])
        self.assertEqual(r.llen("l"), 0)
        with self.assertRaisesRegex(redis.ResponseError, "wrong kind of value"):
            r.get("other")

    def test_sets(self):
        r = self.client
        self.assertEqual(r.sadd("s", "a", "b", "c"), 3)
        self.assertEqual(r.sadd("t", "b", "c", "d"), 3)
        self.assertEqual(r.smembers("s"), {"a", "b", "c"})
        self.assertEqual(r.sinter("s", "t"), {"b", "c"})
        self.assertEqual(r.sintercard(2, ["s", "t"], limit=1), 1)
        self.assertEqual(r.sunionstore("u", "s", "t"), 4)
        self.assertEqual(list(map(bool, r.smismember("s", ["a", "d"]))), [True, False])
        self.assertEqual(r.srem("s", "a", "d"), 1)
        self.assertIn(r.spop("s"), {"b", "c"})

    def test_sorted_sets(self):
        r = self.client
        self.assertEqual(r.zadd("z", {"tea": 3.5, "book": 12, "pen": 1}), 3)
        pairs = r.zrange("z", 0, -1, withscores=True)
        self.assertEqual([tuple(pair) for pair in pairs], [("pen", 1.0), ("tea", 3.5), ("book", 12.0)])
        self.assertEqual(r.zrangebyscore("z", "(1", "+inf"), ["tea", "book"])
        self.assertEqual(r.zrevrank("z", "book"), 0)
        self.assertEqual(r.zincrby("z", 20, "pen"), 21.0)
        self.assertEqual(r.zscore("z", "pen"), 21.0)
        self.assertIsNone(r.zscore("z", "missing"))
        self.assertEqual(r.zcount("z", 3, 12), 2)
        self.assertEqual(r.zadd("z", {"tea": 1}, gt=True, ch=True), 0)
        self.assertEqual([tuple(pair) for pair in r.zpopmin("z", 1)], [("tea", 3.5)])
        r.zadd("w", {"book": 1, "cup": 2})
        self.assertEqual(r.zinterstore("i", ["z", "w"]), 1)
        self.assertEqual(r.zscore("i", "book"), 13.0)

    def test_pipelines(self):
        pipeline = self.client.pipeline(transaction=False)
        for i in range(2000):
            pipeline.set(f"key:{i}", i).get(f"key:{i}")
        pipeline.lpush("key:0", "x")
        answers = pipeline.execute(raise_on_error=False)
        self.assertEqual(answers[1:4000:2], [str(i) for i in range(2000)])
        self.assertIsInstance(answers[-1], redis.ResponseError)
        self.assertEqual(self.client.dbsize(), 2000)

    def test_transactions(self):
        r = self.client
        self.assertEqual(r.pipeline().set("a", 1).incr("a").get("a").execute(), [True, 2, "2"])
        with self.assertRaises(redis.ResponseError):
            r.pipeline().set("a", "text").incr("a").rpush("l", "kept").execute()
        self.assertEqual(r.lrange("l", 0, -1), ["kept"])

        with r.pipeline() as pipeline:
            pipeline.watch("a")
            self.another().set("a", "changed")
            pipeline.multi()
            pipeline.set("a", "lost")
            with self.assertRaises(redis.WatchError):
                pipeline.execute()
        self.assertEqual(r.get("a"), "changed")

        r.set("n", 0)
        tries = []

        def increment(pipeline):
            value = int(pipeline.get("n"))
            tries.append(value)
            if len(tries) == 1:
                self.another().set("n", 10)
            pipeline.multi()
            pipeline.set("n", value + 1)

        r.transaction(increment, "n")
        self.assertEqual((tries, r.get("n")), ([0, 10], "11"))

    def test_publish_and_subscribe(self):
        with self.client.pubsub(ignore_subscribe_messages=True) as channels:
            channels.subscribe("news")
            channels.psubscribe("n*s", "other.*")
            sent = self.another()
            wait_until(lambda: sent.pubsub_numpat() == 2 and sent.pubsub_numsub("news") == [("news", 1)])
            self.assertEqual(sent.publish("news", "one"), 2)
            self.assertEqual(sent.publish("other.x", "two"), 1)
            found = []
            deadline = time.monotonic() + PATIENCE_SECONDS
            while len(found) < 3 and time.monotonic() < deadline:
                if message := channels.get_message(timeout=1):
                    found.append((message["type"], message["channel"], message["data"]))
            self.assertEqual(
                sorted(found),
                [("message", "news", "one"), ("pmessage", "news", "one"), ("pmessage", "other.x", "two")],
            )
            channels.unsubscribe()
            channels.punsubscribe()
            wait_until(lambda: channels.get_message(timeout=0.01) is None and not channels.subscribed)
            self.assertEqual(sent.publish("news", "nobody"), 0)

    def test_blocking_pops(self):
        pushes = self.another()
        popped = []
        for pop, push, expected in [
            (lambda r: r.blpop(["first", "second"], timeout=0), lambda: pushes.rpush("second", "x"), ["second", "x"]),
            (lambda r: r.brpop("first", timeout=PATIENCE_SECONDS), lambda: pushes.rpush("first", "y"), ["first", "y"]),
            (lambda r: r.blmove("first", "to", PATIENCE_SECONDS), lambda: pushes.rpush("first", "z"), "z"),
            (lambda r: r.bzpopmin("z", 0), lambda: pushes.zadd("z", {"low": 1, "high": 2}), ["z", "low", 1.0]),
        ]:
            waiting = self.another(socket_timeout=None)
            thread = threading.Thread(target=lambda: popped.append(pop(waiting)))
            thread.start()
            wait_until(lambda: pushes.info("clients")["blocked_clients"] == 1)
            push()
            thread.join(PATIENCE_SECONDS)
            self.assertFalse(thread.is_alive())
            found = popped.pop()
            self.assertEqual(found if isinstance(found, str) else list(found), expected)
        self.assertIsNone(self.client.blpop("first", timeout=0.05))

    def test_scan_iterators(self):
        r = self.client
        keys = {f"key:{i}" for i in range(3000)}
        members = [f"member:{i}" for i in range(2000)]
        r.mset(dict.fromkeys(keys, "v"))
        r.sadd("set", *members)
        r.hset("hash", mapping=dict.fromkeys(members, "v"))
        r.zadd("sorted", {member: i for i, member in enumerate(members)})
        self.assertEqual(set(r.scan_iter("key:*", count=100)), keys)
        self.assertEqual(list(r.scan_iter(_type="ZSET")), ["sorted"])
        self.assertEqual(set(r.sscan_iter("set")), set(members))
        self.assertEqual(dict(r.hscan_iter("hash", count=50)), dict.fromkeys(members, "v"))
        self.assertEqual(dict(r.zscan_iter("sorted", match="member:1*")), {
            member: float(i) for i, member in enumerate(members) if member.startswith("member:1")
        })

    def test_what_tools_ask_the_server(self):
        r = self.client
        r.set("k", "v", ex=100)
        info = r.info("everything")
        self.assertEqual(info["db0"]["keys"], 1)
        self.assertEqual(info["redis_version"].split(".")[0], "7")
        name = f"test-{self.protocol}"
        self.assertTrue(r.client_setname(name))
        self.assertEqual([c["resp"] for c in r.client_list() if c["name"] == name], [str(self.protocol)])
        self.assertEqual(r.client_info()["user"], "default")
        self.assertTrue(r.config_set("slowlog-log-slower-than", 0))
        self.assertEqual(r.config_get("slowlog-log-*"), {"slowlog-log-slower-than": "0"})
        r.get("k")
        self.assertTrue(any(entry["command"] in (b"GET k", "GET k") for entry in r.slowlog_get(10)))
        r.config_set("slowlog-log-slower-than", 10000)
        self.assertGreater(r.memory_usage("k"), 0)
        self.assertEqual(r.object("encoding", "k"), "embstr")
        self.assertIn("get", r.command())
        self.assertEqual(r.command_getkeys("SET", "k", "v"), ["k"])
        with r.monitor() as monitor:
            self.another().get("seen by the monitor")
            wait_until(lambda: monitor.next_command()["command"] == "GET seen by the monitor")

    def test_a_wrong_password_is_refused(self):
        with self.assertRaises(redis.AuthenticationError):
            connect(self.protocol, password="wrong", retry=ONCE).ping()
        with self.assertRaises(redis.AuthenticationError):
            connect(self.protocol, password=None, retry=ONCE).ping()

    def test_coroutines(self):
        async def story():
            r = redis.asyncio.Redis(host=HOST, port=int(PORT), password=PASSWORD, protocol=self.protocol)
            async with r:
                waiting = asyncio.create_task(r.blpop("queue", timeout=PATIENCE_SECONDS))
                while (await r.info("clients"))["blocked_clients"] != 1:
                    await asyncio.sleep(0.005)
                await asyncio.gather(*(r.incr("n") for _ in range(50)))
                await r.rpush("queue", "job")
                self.assertEqual(list(await waiting), [b"queue", b"job"])
                self.assertEqual(await r.get("n"), b"50")

        asyncio.run(asyncio.wait_for(story(), PATIENCE_SECONDS))


class Resp2(Client, unittest.TestCase):
    protocol = 2


class Resp3(Client, unittest.TestCase):
    protocol = 3


if __name__ == "__main__":
    unittest.main(verbosity=2)
