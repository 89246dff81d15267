package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/devpostgres"
	"github.com/keymeter/keymeter/internal/testkit"
)

// long reports whether the campaigns run in full, which takes minutes, or in a bounded form.
func long() bool { return os.Getenv("KEYMETER_TEST_LONG") != "" }

func scale(bounded, full int) int {
	if long() {
		return full
	}
	return bounded
}

// cluster is several servers on one database, as processes.
type cluster struct {
	t       *testing.T
	env     []string
	client  *http.Client
	mu      sync.Mutex
	servers []*replica
}

type replica struct {
	url string
	cmd *exec.Cmd
}

func newCluster(t *testing.T, databaseURL string, n int) *cluster {
	t.Helper()
	c := &cluster{t: t, env: settings(databaseURL), client: &http.Client{
		Timeout:   15 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: 64},
	}}
	for range n {
		c.servers = append(c.servers, c.start())
	}
	t.Cleanup(func() {
		for _, s := range c.servers {
			_ = s.cmd.Process.Signal(syscall.SIGCONT)
			_ = s.cmd.Process.Kill()
			_ = s.cmd.Wait()
		}
	})
	return c
}

func (c *cluster) start() *replica {
	url, cmd := server(c.t, c.env)
	return &replica{url: url, cmd: cmd}
}

func (c *cluster) any() *replica {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.servers[rand.IntN(len(c.servers))]
}

// replace kills a server without notice and starts another in its place.
func (c *cluster) replace(old *replica) {
	_ = old.cmd.Process.Kill()
	_ = old.cmd.Wait()
	fresh := c.start()
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.servers {
		if s == old {
			c.servers[i] = fresh
		}
	}
}

// call makes a request; an error says that nothing is known.
func (c *cluster) call(url, method, path, token, body string, into any) (int, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	res, err := c.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	if err != nil || into == nil || len(got) == 0 {
		return res.StatusCode, err
	}
	return res.StatusCode, json.Unmarshal(got, into)
}

func (c *cluster) must(method, path, token, body string, into any) {
	c.t.Helper()
	status, err := c.call(c.any().url, method, path, token, body, into)
	require.NoError(c.t, err)
	require.Less(c.t, status, 300, path)
}

type key struct {
	ID, Key string
	revoked atomic.Int64 // when its revoke was answered, nanoseconds since the start of the test
}

func (c *cluster) newAccount() (id string) {
	c.t.Helper()
	var account struct{ ID string }
	c.must("POST", "/v1/accounts", operatorToken, `{"name":"A"}`, &account)
	return account.ID
}

// monitor verifies keys all the time, and counts what was accepted although the call began after the answer to a revoke.
type monitor struct {
	c          *cluster
	start      time.Time
	keys       []*key
	accepted   atomic.Int64
	refused    atomic.Int64
	violations atomic.Int64
}

func (m *monitor) run(stop <-chan struct{}, from *atomic.Int64) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		low := int(from.Load()) // around where keys are being revoked
		k := m.keys[min(len(m.keys)-1, max(0, low-8+rand.IntN(24)))]
		began := time.Since(m.start)
		var verdict struct{ Valid bool }
		status, err := m.c.call(m.c.any().url, "POST", "/v1/keys/verify", serviceToken, `{"key":"`+k.Key+`"}`, &verdict)
		if err != nil || status != http.StatusOK {
			continue // nothing is known
		}
		if !verdict.Valid {
			m.refused.Add(1)
			continue
		}
		m.accepted.Add(1)
		if at := k.revoked.Load(); at != 0 && int64(began) > at {
			m.violations.Add(1)
		}
	}
}

// Guarantee G1 on real processes: a verify that starts after the answer to a revoke is refused on every server, also
// while servers are paused and killed and their connections to Postgres cut.
func TestRevokedKeysAreNeverAccepted(t *testing.T) {
	t.Parallel()
	for _, chaos := range []bool{false, true} {
		t.Run(fmt.Sprintf("chaos %t", chaos), func(t *testing.T) {
			t.Parallel()
			databaseURL := testkit.DatabaseURL(t)
			c := newCluster(t, databaseURL, 3)
			account := c.newAccount()
			m := &monitor{c: c, start: time.Now()}
			n := scale(150, 10_000)
			if chaos {
				n = scale(60, 2000)
			}
			for range n {
				k := &key{}
				c.must("POST", "/v1/accounts/"+account+"/keys", operatorToken, "", k)
				m.keys = append(m.keys, k)
			}
			var at atomic.Int64
			stop := make(chan struct{})
			var running sync.WaitGroup
			for range 8 {
				running.Go(func() { m.run(stop, &at) })
			}
			if chaos {
				pool, err := pgxpool.New(context.Background(), databaseURL)
				require.NoError(t, err)
				t.Cleanup(pool.Close)
				running.Go(func() { c.disturb(stop, pool) })
			}
			answered := 0
			var own key // what revokes
			c.must("POST", "/v1/accounts/"+account+"/keys", operatorToken, "", &own)
			for i, k := range m.keys {
				at.Store(int64(i))
				status, err := c.call(c.any().url, "DELETE", "/v1/keys/"+k.ID, own.Key, "", nil)
				if err == nil && status == http.StatusNoContent {
					k.revoked.Store(int64(time.Since(m.start)))
					answered++
				}
			}
			close(stop)
			running.Wait()
			t.Logf("%d revokes answered, %d accepts, %d refusals, %d accepts after the answer",
				answered, m.accepted.Load(), m.refused.Load(), m.violations.Load())
			require.Zero(t, m.violations.Load())
			require.Positive(t, m.accepted.Load())
			require.Positive(t, m.refused.Load())
			require.Greater(t, answered, n/2)
		})
	}
}

// disturb pauses, kills and cuts off servers, one after the other.
func (c *cluster) disturb(stop <-chan struct{}, pool *pgxpool.Pool) {
	for round := 0; ; round++ {
		victim := c.any()
		switch round % 3 {
		case 0:
			_ = victim.cmd.Process.Signal(syscall.SIGSTOP)
			pause(stop, time.Duration(rand.IntN(3000))*time.Millisecond)
			_ = victim.cmd.Process.Signal(syscall.SIGCONT)
		case 1:
			_, _ = pool.Exec(context.Background(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.5`)
		case 2:
			c.replace(victim)
		}
		if pause(stop, time.Duration(rand.IntN(500))*time.Millisecond) {
			return
		}
	}
}

// pause waits, and reports whether it was told to stop.
func pause(stop <-chan struct{}, d time.Duration) bool {
	select {
	case <-stop:
		return true
	case <-time.After(d):
		return false
	}
}

// Guarantees G2 and G3 on real processes: 64 callers on three servers spend on one capped account, while servers are
// killed and Postgres is restarted. What was acknowledged is what the ledger has, each once, and never over the cap.
func TestSpendsSurviveCrashes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	options := devpostgres.Options{Dir: dir, Durable: true}
	database, err := devpostgres.Start(context.Background(), options)
	require.NoError(t, err)
	t.Cleanup(func() { _ = database.Stop(context.Background()) })
	require.NoError(t, database.EnsureDatabase(context.Background(), "keymeter"))
	databaseURL := database.URL("keymeter")
	_, stderr, err := run(t, settings(databaseURL), "migrate")
	require.NoError(t, err, stderr)
	c := newCluster(t, databaseURL, 3)
	account := c.newAccount()
	var k key
	c.must("POST", "/v1/accounts/"+account+"/keys", operatorToken, "", &k)

	const limit, cost = 2500, 3
	calls := scale(1000, 20_000)
	var spent, refused, next atomic.Int64
	var acknowledged sync.Map
	var callers sync.WaitGroup
	for range 64 {
		callers.Go(func() {
			for {
				n := int(next.Add(1))
				if n > calls {
					return
				}
				body := fmt.Sprintf(`{"key":%q,"eventId":"e%d","cost":{"category":"rag","credits":%d}}`, k.Key, n, cost)
				for { // until it is known
					var verdict struct {
						Valid bool
						Code  string
					}
					status, err := c.call(c.any().url, "POST", "/v1/keys/verify", serviceToken, body, &verdict)
					if err == nil && status == http.StatusOK && verdict.Valid {
						spent.Add(cost)
						acknowledged.Store(fmt.Sprintf("e%d", n), true)
						break
					}
					if err == nil && status == http.StatusOK && verdict.Code == "credits_exhausted" {
						refused.Add(1)
						break
					}
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { callers.Wait(); close(done) }()
	for round := range scale(3, 30) {
		if pause(done, 300*time.Millisecond) {
			break
		}
		if round%3 == 1 {
			port := mustPort(t, databaseURL)
			require.NoError(t, database.Stop(context.Background()))
			options.Port = port
			database, err = devpostgres.Start(context.Background(), options)
			require.NoError(t, err)
			continue
		}
		c.replace(c.any())
	}
	<-done

	pool, err := pgxpool.New(context.Background(), databaseURL)
	require.NoError(t, err)
	defer pool.Close()
	rows, err := pool.Query(context.Background(), `SELECT id, credits FROM usage_events`)
	require.NoError(t, err)
	var id string
	var credits, sum int64
	events := 0
	for rows.Next() {
		require.NoError(t, rows.Scan(&id, &credits))
		_, ok := acknowledged.Load(id)
		require.True(t, ok, "%s is in the ledger and was never acknowledged", id)
		sum += credits
		events++
	}
	require.NoError(t, rows.Err())
	var used int64
	require.NoError(t, pool.QueryRow(context.Background(), `SELECT tts + stt + llm + rag FROM balances`).Scan(&used))
	t.Logf("%d spends acknowledged, %d refused, %d credits of %d used", events, refused.Load(), used, limit)
	require.Equal(t, spent.Load(), sum)
	require.Equal(t, used, sum)
	require.LessOrEqual(t, used, int64(limit))
	require.Greater(t, used, int64(limit-cost), "all that could be spent was")
	require.Equal(t, int64(calls), int64(events)+refused.Load())

	// Guarantee G4: what the crashes left adds up.
	out, stderr, err := run(t, settings(databaseURL), "ledger", "verify")
	require.NoError(t, err, out+stderr)
	require.Equal(t, "0 differences", out)
	_, err = pool.Exec(context.Background(), `UPDATE balances SET rag = rag - 1`)
	require.NoError(t, err)
	out, _, err = run(t, settings(databaseURL), "ledger", "verify")
	require.Error(t, err)
	require.Contains(t, out, "balances are the sums of events")
}

func mustPort(t *testing.T, databaseURL string) int {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(databaseURL)
	require.NoError(t, err)
	return int(cfg.ConnConfig.Port)
}
