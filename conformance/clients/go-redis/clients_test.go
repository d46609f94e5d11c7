// go-redis against a server at HOLDFAST_ADDRESS (host:port) with the password HOLDFAST_PASSWORD.
//
// Each test runs with both versions of the protocol. What is checked is what an application sees: types and values after
// the client has parsed them.
package clients

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// For whatever takes milliseconds; no test waits as long unless the server is broken.
const patience = 20 * time.Second

type suite struct {
	*testing.T
	ctx context.Context
	*redis.Client
	protocol int
}

// each runs the test with both protocols, on an empty server.
func each(t *testing.T, test func(s *suite)) {
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprintf("resp%d", protocol), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			s := &suite{t, ctx, nil, protocol}
			s.Client = s.another()
			s.must(s.FlushAll(ctx).Err())
			test(s)
		})
	}
}

func (s *suite) another() *redis.Client {
	client := redis.NewClient(&redis.Options{
		Addr: os.Getenv("HOLDFAST_ADDRESS"), Password: os.Getenv("HOLDFAST_PASSWORD"), Protocol: s.protocol, MaxRetries: -1,
	})
	s.Cleanup(func() { _ = client.Close() })
	return client
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) until(what string, holds func() bool) {
	s.Helper()
	for !holds() {
		if s.ctx.Err() != nil {
			s.Fatalf("%s: not in time", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

type answer[T any] interface{ Result() (T, error) }

// expect compares what a command has answered.
func expect[T any](s *suite, found answer[T], expected T) {
	s.Helper()
	value, err := found.Result()
	if err != nil {
		s.Fatalf("%v: %v", found, err)
	}
	if !reflect.DeepEqual(value, expected) {
		s.Fatalf("%v: found %v, expected %v", found, value, expected)
	}
}

func expectNil[T any](s *suite, found answer[T]) {
	s.Helper()
	if _, err := found.Result(); !errors.Is(err, redis.Nil) {
		s.Fatalf("%v: %v, expected nil", found, err)
	}
}

func expectError[T any](s *suite, found answer[T], part string) {
	s.Helper()
	if _, err := found.Result(); err == nil || !strings.Contains(err.Error(), part) {
		s.Fatalf("%v: error %v, expected %q", found, err, part)
	}
}

func TestStrings(t *testing.T) {
	each(t, func(s *suite) {
		expect(s, s.Set(s.ctx, "greeting", "hello", 0), "OK")
		expect(s, s.Get(s.ctx, "greeting"), "hello")
		expectNil(s, s.Get(s.ctx, "missing"))
		expect(s, s.SetArgs(s.ctx, "greeting", "good day", redis.SetArgs{Get: true, TTL: 100 * time.Second}), "hello")
		expect(s, s.Persist(s.ctx, "greeting"), true)
		expect(s, s.TTL(s.ctx, "greeting"), -1)
		expect(s, s.Append(s.ctx, "greeting", "!"), 9)
		expect(s, s.IncrByFloat(s.ctx, "counter", 5.5), 5.5)
		expect(s, s.MSet(s.ctx, "a", 1, "b", 2), "OK")
		expect(s, s.MGet(s.ctx, "a", "missing", "b"), []any{"1", nil, "2"})
		expect(s, s.GetDel(s.ctx, "a"), "1")
		expectError(s, s.Incr(s.ctx, "greeting"), "not an integer")
		every := make([]byte, 1<<20)
		for i := range every {
			every[i] = byte(i)
		}
		expect(s, s.Set(s.ctx, string(every[:256]), every, time.Hour), "OK")
		expect(s, s.Get(s.ctx, string(every[:256])), string(every))
	})
}

func TestHashes(t *testing.T) {
	each(t, func(s *suite) {
		expect(s, s.HSet(s.ctx, "h", "name", "Alice", "orders", 3), 2)
		expect(s, s.HGetAll(s.ctx, "h"), map[string]string{"name": "Alice", "orders": "3"})
		expect(s, s.HIncrBy(s.ctx, "h", "orders", 2), 5)
		expect(s, s.HMGet(s.ctx, "h", "name", "missing"), []any{"Alice", nil})
		expect(s, s.HSetNX(s.ctx, "h", "name", "Bob"), false)
		expect(s, s.HDel(s.ctx, "h", "name", "missing"), 1)
		expect(s, s.HRandFieldWithValues(s.ctx, "h", 5), []redis.KeyValue{{Key: "orders", Value: "5"}})
		var scanned struct {
			Orders int `redis:"orders"`
		}
		s.must(s.HGetAll(s.ctx, "h").Scan(&scanned))
		if scanned.Orders != 5 {
			s.Fatal(scanned)
		}
	})
}

func TestLists(t *testing.T) {
	each(t, func(s *suite) {
		expect(s, s.RPush(s.ctx, "l", "a", "b", "c", "d", "b"), 5)
		expect(s, s.LRange(s.ctx, "l", 0, -1), []string{"a", "b", "c", "d", "b"})
		expect(s, s.LPos(s.ctx, "l", "b", redis.LPosArgs{Rank: -1}), 4)
		expect(s, s.LInsertBefore(s.ctx, "l", "c", "x"), 6)
		expect(s, s.LRem(s.ctx, "l", 0, "b"), 2)
		expect(s, s.LMove(s.ctx, "l", "other", "LEFT", "RIGHT"), "a")
		expect(s, s.LPopCount(s.ctx, "l", 2), []string{"x", "c"})
		key, values, err := s.LMPop(s.ctx, "left", 5, "missing", "l").Result()
		s.must(err)
		if key != "l" || !slices.Equal(values, []string{"d"}) {
			s.Fatal(key, values)
		}
		expectError(s, s.Get(s.ctx, "other"), "WRONGTYPE")
	})
}

func TestSets(t *testing.T) {
	each(t, func(s *suite) {
		expect(s, s.SAdd(s.ctx, "s", "a", "b", "c"), 3)
		expect(s, s.SAdd(s.ctx, "t", "b", "c", "d"), 3)
		expect(s, s.SMembersMap(s.ctx, "s"), map[string]struct{}{"a": {}, "b": {}, "c": {}})
		expect(s, s.SInterCard(s.ctx, 1, "s", "t"), 1)
		expect(s, s.SUnionStore(s.ctx, "u", "s", "t"), 4)
		expect(s, s.SMIsMember(s.ctx, "s", "a", "d"), []bool{true, false})
		expect(s, s.SMove(s.ctx, "s", "t", "a"), true)
		expect(s, s.SRem(s.ctx, "s", "a", "b"), 1)
		expect(s, s.SPop(s.ctx, "s"), "c")
	})
}

func TestSortedSets(t *testing.T) {
	each(t, func(s *suite) {
		expect(s, s.ZAdd(s.ctx, "z", redis.Z{Score: 3.5, Member: "tea"}, redis.Z{Score: 12, Member: "book"}), 2)
		expect(s, s.ZRangeWithScores(s.ctx, "z", 0, -1), []redis.Z{{Score: 3.5, Member: "tea"}, {Score: 12, Member: "book"}})
		expect(s, s.ZRangeByScore(s.ctx, "z", &redis.ZRangeBy{Min: "(3.5", Max: "+inf"}), []string{"book"})
		expect(s, s.ZRank(s.ctx, "z", "book"), 1)
		expect(s, s.ZIncrBy(s.ctx, "z", 20, "tea"), 23.5)
		expect(s, s.ZMScore(s.ctx, "z", "tea", "book"), []float64{23.5, 12})
		expectNil(s, s.ZScore(s.ctx, "z", "missing"))
		expect(s, s.ZPopMin(s.ctx, "z"), []redis.Z{{Score: 12, Member: "book"}})
		expect(s, s.ZAdd(s.ctx, "w", redis.Z{Score: 1, Member: "tea"}), 1)
		expect(s, s.ZUnionWithScores(s.ctx, redis.ZStore{Keys: []string{"z", "w"}}), []redis.Z{{Score: 24.5, Member: "tea"}})
	})
}

func TestPipelines(t *testing.T) {
	each(t, func(s *suite) {
		pipeline := s.Pipeline()
		gets := make([]*redis.StringCmd, 2000)
		for i := range gets {
			pipeline.Set(s.ctx, fmt.Sprint("key:", i), i, 0)
			gets[i] = pipeline.Get(s.ctx, fmt.Sprint("key:", i))
		}
		wrong := pipeline.LPush(s.ctx, "key:0", "x")
		if _, err := pipeline.Exec(s.ctx); err == nil {
			s.Fatal("the error of one command is that of the pipeline")
		}
		for i, get := range gets {
			expect(s, get, strconv.Itoa(i))
		}
		expectError(s, wrong, "WRONGTYPE")
		expect(s, s.DBSize(s.ctx), 2000)
	})
}

func TestTransactions(t *testing.T) {
	each(t, func(s *suite) {
		var incremented *redis.IntCmd
		_, err := s.TxPipelined(s.ctx, func(p redis.Pipeliner) error {
			p.Set(s.ctx, "a", 1, 0)
			incremented = p.Incr(s.ctx, "a")
			return nil
		})
		s.must(err)
		expect(s, incremented, 2)

		tries := 0
		increment := func(tx *redis.Tx) error {
			tries++
			value, err := tx.Get(s.ctx, "a").Int()
			s.must(err)
			if tries == 1 {
				s.must(s.another().Set(s.ctx, "a", 10, 0).Err())
			}
			_, err = tx.TxPipelined(s.ctx, func(p redis.Pipeliner) error {
				return p.Set(s.ctx, "a", value+1, 0).Err()
			})
			return err
		}
		if err := s.Watch(s.ctx, increment, "a"); !errors.Is(err, redis.TxFailedErr) {
			s.Fatal(err)
		}
		s.must(s.Watch(s.ctx, increment, "a"))
		expect(s, s.Get(s.ctx, "a"), "11")
	})
}

func TestPublishAndSubscribe(t *testing.T) {
	each(t, func(s *suite) {
		channels := s.Subscribe(s.ctx, "news")
		defer channels.Close()
		s.must(channels.PSubscribe(s.ctx, "n*s"))
		sharded := s.SSubscribe(s.ctx, "shard")
		defer sharded.Close()
		s.until("the subscriptions", func() bool {
			return s.PubSubNumPat(s.ctx).Val() == 1 && s.PubSubNumSub(s.ctx, "news").Val()["news"] == 1 &&
				s.PubSubShardNumSub(s.ctx, "shard").Val()["shard"] == 1
		})
		expect(s, s.Publish(s.ctx, "news", "one"), 2)
		expect(s, s.SPublish(s.ctx, "shard", "two"), 1)
		var found []string
		for range 2 {
			message, err := channels.ReceiveMessage(s.ctx)
			s.must(err)
			found = append(found, strings.Join([]string{message.Pattern, message.Channel, message.Payload}, " "))
		}
		slices.Sort(found)
		if !slices.Equal(found, []string{" news one", "n*s news one"}) {
			s.Fatal(found)
		}
		message, err := sharded.ReceiveMessage(s.ctx)
		s.must(err)
		if message.Payload != "two" {
			s.Fatal(message)
		}
		s.must(channels.Ping(s.ctx, "alive"))
		s.must(channels.Unsubscribe(s.ctx, "news"))
		s.must(channels.PUnsubscribe(s.ctx, "n*s"))
		s.until("the end of the subscriptions", func() bool {
			return s.PubSubNumPat(s.ctx).Val() == 0 && s.PubSubNumSub(s.ctx, "news").Val()["news"] == 0
		})
	})
}

func TestBlockingPops(t *testing.T) {
	each(t, func(s *suite) {
		for _, turn := range []struct {
			pop      func(*redis.Client) (any, error)
			push     func() error
			expected any
		}{
			{func(c *redis.Client) (any, error) { return c.BLPop(s.ctx, 0, "first", "second").Result() },
				func() error { return s.RPush(s.ctx, "second", "x").Err() }, []string{"second", "x"}},
			{func(c *redis.Client) (any, error) {
				return c.BLMove(s.ctx, "first", "to", "LEFT", "LEFT", patience).Result()
			},
				func() error { return s.RPush(s.ctx, "first", "y").Err() }, "y"},
			{func(c *redis.Client) (any, error) { return c.BZPopMax(s.ctx, patience, "z").Result() },
				func() error {
					return s.ZAdd(s.ctx, "z", redis.Z{Score: 1, Member: "low"}, redis.Z{Score: 2, Member: "high"}).Err()
				},
				&redis.ZWithKey{Key: "z", Z: redis.Z{Score: 2, Member: "high"}}},
		} {
			client, popped := s.another(), make(chan any, 1)
			go func() {
				value, err := turn.pop(client)
				if err != nil {
					value = err
				}
				popped <- value
			}()
			s.until("a blocked client", func() bool {
				return strings.Contains(s.Info(s.ctx, "clients").Val(), "\r\nblocked_clients:1\r\n")
			})
			s.must(turn.push())
			if found := <-popped; !reflect.DeepEqual(found, turn.expected) {
				s.Fatalf("popped %v, expected %v", found, turn.expected)
			}
		}
		expectNil(s, s.BRPop(s.ctx, time.Second, "nothing"))
	})
}

func TestScanIterators(t *testing.T) {
	each(t, func(s *suite) {
		pipeline := s.Pipeline()
		for i := range 2000 {
			member := fmt.Sprint("member:", i)
			pipeline.Set(s.ctx, "key:"+member, i, 0)
			pipeline.SAdd(s.ctx, "set", member)
			pipeline.HSet(s.ctx, "hash", member, i)
			pipeline.ZAdd(s.ctx, "sorted", redis.Z{Score: float64(i), Member: member})
		}
		_, err := pipeline.Exec(s.ctx)
		s.must(err)
		for name, iterator := range map[string]*redis.ScanIterator{
			"keys":   s.Scan(s.ctx, 0, "key:*", 100).Iterator(),
			"set":    s.SScan(s.ctx, "set", 0, "", 0).Iterator(),
			"hash":   s.HScan(s.ctx, "hash", 0, "", 50).Iterator(),
			"sorted": s.ZScan(s.ctx, "sorted", 0, "", 0).Iterator(),
		} {
			found := map[string]struct{}{}
			for iterator.Next(s.ctx) {
				if value := iterator.Val(); strings.Contains(value, "member:") {
					found[value] = struct{}{}
				}
			}
			s.must(iterator.Err())
			if len(found) != 2000 {
				s.Fatalf("%s: %d of 2000", name, len(found))
			}
		}
		typed := s.ScanType(s.ctx, 0, "*", 10000, "zset").Iterator()
		if !typed.Next(s.ctx) || typed.Val() != "sorted" || typed.Next(s.ctx) {
			s.Fatal("SCAN with a type")
		}
	})
}

func TestWhatToolsAskTheServer(t *testing.T) {
	each(t, func(s *suite) {
		expect(s, s.Set(s.ctx, "k", "v", time.Hour), "OK")
		name := fmt.Sprint("test-", s.protocol)
		conn := s.Conn()
		defer conn.Close()
		s.must(conn.ClientSetName(s.ctx, name).Err())
		info, err := conn.ClientInfo(s.ctx).Result()
		s.must(err)
		if info.Name != name || info.Resp != s.protocol || info.User != "default" {
			s.Fatalf("%+v", info)
		}
		expect(s, s.ConfigSet(s.ctx, "slowlog-log-slower-than", "0"), "OK")
		expect(s, s.ConfigGet(s.ctx, "slowlog-log-*"), map[string]string{"slowlog-log-slower-than": "0"})
		expect(s, s.Get(s.ctx, "k"), "v")
		log, err := s.SlowLogGet(s.ctx, 20).Result()
		s.must(err)
		if !slices.ContainsFunc(log, func(l redis.SlowLog) bool { return slices.Equal(l.Args, []string{"get", "k"}) }) {
			s.Fatal(log)
		}
		expect(s, s.ConfigSet(s.ctx, "slowlog-log-slower-than", "10000"), "OK")
		commands, err := s.Command(s.ctx).Result()
		s.must(err)
		if set := commands["set"]; set == nil || set.Arity != -3 || set.FirstKeyPos != 1 || set.ReadOnly {
			s.Fatalf("%+v", set)
		}
		expect(s, s.CommandGetKeys(s.ctx, "set", "k", "v"), []string{"k"})
		expect(s, s.ObjectEncoding(s.ctx, "k"), "embstr")
		if bytes, err := s.MemoryUsage(s.ctx, "k").Result(); err != nil || bytes <= 0 {
			s.Fatal(bytes, err)
		}
	})
}
