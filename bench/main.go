// Command bench measures Keymeter beside baselines, on this machine, in one run: bare handlers on the same HTTP stack and
// bare statements on the same Postgres. Ratios are what counts; see docs/benchmarks. It writes its table there.
package main

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keymeter/keymeter/internal/devpostgres"
)

const (
	serviceToken  = "bench-service-token-0123456789abcdef"
	operatorToken = "bench-operator-token-0123456789abcdef"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) == 4 && os.Args[1] == "baseline" {
		if err := baseline(ctx, os.Args[2], os.Args[3]); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "baseline:", err)
			os.Exit(1) //nolint:gocritic // there is nothing to stop
		}
		return
	}
	b := &bench{}
	flag.IntVar(&b.rounds, "rounds", 5, "interleaved rounds of each measurement; the median counts")
	flag.DurationVar(&b.each, "each", 2*time.Second, "how long a measurement takes")
	flag.IntVar(&b.keys, "keys", 1_000_000, "keys in the database")
	flag.IntVar(&b.revokes, "revokes", 500, "revokes on three replicas")
	flag.StringVar(&b.out, "out", "docs/benchmarks/latest.md", "where the table is written")
	flag.StringVar(&b.only, "only", "", "measurements to take, by commas: idle verify cold spend hot rate batches create bogus revoke; "+
		"with -scale: memory reads walk")
	flag.BoolVar(&b.scale, "scale", false, "measure at 1,000,000 keys and 10,000,000 events instead, which takes minutes to make")
	flag.Parse()
	if err := b.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

type bench struct {
	rounds, keys, revokes int
	each                  time.Duration
	out, only             string
	scale                 bool

	pool        *pgxpool.Pool
	databaseURL string
	pepper      string
	binary      string
	server      *process
	bare        *process
	rows        []string
	next        atomic.Int64 // numbers that are used once
}

const accounts = 10_000

func (b *bench) run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "keymeter-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	database, err := devpostgres.Start(ctx, devpostgres.Options{
		Dir: filepath.Join(dir, "postgres"), Durable: true, CacheDir: ".cache/postgres",
		ExtraConfig: map[string]string{"max_connections": "200", "shared_buffers": "512MB", "max_wal_size": "4GB"},
	})
	if err != nil {
		return err
	}
	defer func() { _ = database.Stop(context.WithoutCancel(ctx)) }()
	if err := b.prepare(ctx, database, dir); err != nil {
		return err
	}
	defer b.pool.Close()
	for _, m := range b.measurements() {
		if b.only != "" && !slices.Contains(strings.Split(b.only, ","), m.name) {
			continue
		}
		if err := m.measure(ctx); err != nil {
			return err
		}
	}
	b.server.stop()
	b.bare.stop()
	return b.write()
}

type measurement struct {
	name    string
	measure func(context.Context) error
}

func (b *bench) measurements() []measurement {
	if b.scale {
		return []measurement{{"memory", b.memory}, {"reads", b.reads}, {"walk", b.walk}}
	}
	return []measurement{
		{"idle", b.idle},
		{"verify", b.verify},
		{"cold", b.cold},
		{"spend", b.spend},
		{"hot", b.hot},
		{"rate", b.constantRate},
		{"batches", b.batches},
		{"create", b.create},
		{"bogus", b.bogus},
		{"revoke", b.revoke},
	}
}

func (b *bench) prepare(ctx context.Context, database *devpostgres.Server, dir string) (err error) {
	if err := database.EnsureDatabase(ctx, "bench"); err != nil {
		return err
	}
	b.databaseURL = database.URL("bench")
	pepper := make([]byte, 32)
	b.pepper = base64.StdEncoding.EncodeToString(pepper)
	b.binary = filepath.Join(dir, "keymeter")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", b.binary, "./cmd/keymeter").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	migrate := exec.CommandContext(ctx, b.binary, "migrate")
	migrate.Env = []string{"KEYMETER_DATABASE_URL=" + b.databaseURL}
	if out, err := migrate.CombinedOutput(); err != nil {
		return fmt.Errorf("migrate: %w: %s", err, out)
	}
	if b.pool, err = pgxpool.New(ctx, b.databaseURL); err != nil {
		return err
	}
	if err := b.fill(ctx, pepper); err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	if b.bare, err = startBaseline(ctx, b.databaseURL); err != nil {
		return err
	}
	b.server, err = startServer(ctx, b.binary, b.databaseURL, b.pepper)
	return err
}

func (b *bench) fill(ctx context.Context, pepper []byte) error {
	if b.scale {
		return seedScale(ctx, b.pool, pepper)
	}
	slog.Info("seeding", "accounts", accounts, "keys", b.keys)
	return seed(ctx, b.pool, pepper, accounts, b.keys)
}

func (b *bench) row(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	fmt.Println(line)
	b.rows = append(b.rows, line)
}

// load is one side of a comparison.
type load struct {
	addr        string
	connections int
	of          request
	check       func(body []byte) bool
}

// compare measures two loads in turn and reports the medians of their rates and of the rounds' ratios.
func (b *bench) compare(ctx context.Context, name, target string, ours, theirs load) error {
	var our, their, ratios []float64
	for range b.rounds {
		a, err := closed(ctx, ours.addr, ours.connections, b.each, ours.of, ours.check)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if a.failed > 0 {
			return fmt.Errorf("%s: %d answers were wrong", name, a.failed)
		}
		z, err := closed(ctx, theirs.addr, theirs.connections, b.each, theirs.of, theirs.check)
		if err != nil {
			return fmt.Errorf("%s, baseline: %w", name, err)
		}
		if z.failed > 0 {
			return fmt.Errorf("%s, baseline: %d answers were wrong", name, z.failed)
		}
		our, their, ratios = append(our, a.rate), append(their, z.rate), append(ratios, a.rate/z.rate)
	}
	b.row("| %s | %.0f | %.0f | %.2f | %s |", name, median(our), median(their), median(ratios), target)
	b.besideUnkey(name, median(ratios))
	return nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func (b *bench) fixed(connections int, of request) load {
	return load{addr: b.bare.addr, connections: connections, of: func(n int) []byte {
		return []byte(strings.Replace(string(of(n)), "POST /v1/keys/verify", "POST /fixed", 1))
	}}
}

func valid(body []byte) bool { return strings.HasPrefix(string(body), `{"valid":true`) }

func (b *bench) idle(ctx context.Context) error {
	fresh, err := startServer(ctx, b.binary, b.databaseURL, b.pepper)
	if err != nil {
		return err
	}
	defer fresh.stop()
	time.Sleep(2 * time.Second) // idle
	rss, err := fresh.rss()
	b.row("| idle | RSS %.0f MB, ready in %d ms | | | RSS < 60 MB, ready < 1 s |", rss, fresh.ready.Milliseconds())
	return err
}

// verify is from memory: 1,000 keys, warm.
func (b *bench) verify(ctx context.Context) error {
	requests := make([][]byte, 1000)
	bare := make([][]byte, 1000)
	for i := range requests {
		requests[i] = post("/v1/keys/verify", serviceToken, verifyBody(i))
		bare[i] = post("/fixed", serviceToken, verifyBody(i))
	}
	of := func(n int) []byte { return requests[n%len(requests)] }
	if _, err := closed(ctx, b.server.addr, 64, time.Second, of, valid); err != nil {
		return err
	}
	return b.compare(ctx, verifyRow, ">= 0.85 of a bare Echo handler",
		load{b.server.addr, 64, of, valid},
		load{b.bare.addr, 64, func(n int) []byte { return bare[n%len(bare)] }, nil})
}

// cold asks for each key once: none is in memory.
func (b *bench) cold(ctx context.Context) error {
	from := 1000
	next := func() int { from++; return from }
	var mu sync.Mutex
	fresh := func(path string) request {
		return func(int) []byte {
			mu.Lock()
			n := next() % b.keys
			mu.Unlock()
			return post(path, serviceToken, verifyBody(n))
		}
	}
	return b.compare(ctx, "verify, cold, c=64", ">= 1.0 of Echo + one SELECT by hash",
		load{b.server.addr, 64, fresh("/v1/keys/verify"), valid}, load{b.bare.addr, 64, fresh("/select"), nil})
}

func (b *bench) spendBody(key int) string {
	return fmt.Sprintf(`{"key":"%s","eventId":"e%d","cost":{"category":"rag","credits":1}}`, rawKey(key), b.next.Add(1))
}

func (b *bench) spend(ctx context.Context) error {
	of := func(n int) []byte { return post("/v1/keys/verify", serviceToken, b.spendBody(n%accounts)) }
	return b.compare(ctx, spendRow, ">= 0.35 of a bare Echo handler",
		load{b.server.addr, 64, of, valid}, b.fixed(64, of))
}

func (b *bench) hot(ctx context.Context) error {
	of := func(int) []byte { return post("/v1/keys/verify", serviceToken, b.spendBody(0)) }
	bare := func(int) []byte { return post("/spend", serviceToken, fmt.Sprintf("e%d", b.next.Add(1))) }
	return b.compare(ctx, "the same on ONE hot account, c=256", ">= 10 x one transaction a call",
		load{b.server.addr, 256, of, valid}, load{b.bare.addr, 256, bare, nil})
}

func (b *bench) constantRate(ctx context.Context) error {
	of := func(n int) []byte { return post("/v1/keys/verify", serviceToken, b.spendBody(n%accounts)) }
	r, err := open(ctx, b.server.addr, 5000, 5*time.Second, of)
	if err != nil {
		return err
	}
	b.row("| verify + durable spend at a constant 5,000/s | p50 %.1f ms, p99 %.1f ms | | | p99 < 15 ms |",
		float64(r.p50.Microseconds())/1000, float64(r.p99.Microseconds())/1000)
	return nil
}

// batches compares events a second with COPY of rows like them into a table with the same unique index.
func (b *bench) batches(ctx context.Context) error {
	const size = 1000
	var ours, theirs, ratios []float64
	of := func(int) []byte {
		account := accountID(int(b.next.Add(1)) % accounts)
		var body strings.Builder
		body.WriteString(`{"events":[`)
		for i := range size {
			if i > 0 {
				body.WriteByte(',')
			}
			fmt.Fprintf(&body, `{"id":"b%d","accountId":"%s","category":"rag","credits":1}`, b.next.Add(1), account)
		}
		body.WriteString("]}")
		return post("/v1/usage/events", serviceToken, body.String())
	}
	for range b.rounds {
		r, err := closed(ctx, b.server.addr, 4, b.each, of, nil)
		if err != nil || r.failed > 0 {
			return fmt.Errorf("batches: %d wrong: %w", r.failed, err)
		}
		copied, err := b.copyRows(ctx, size, 4)
		if err != nil {
			return err
		}
		ours, theirs = append(ours, r.rate*size), append(theirs, copied)
		ratios = append(ratios, r.rate*size/copied)
	}
	b.row("| events, batches of 1,000, 4 writers | %.0f | %.0f | %.2f | >= 0.60 of COPY |", median(ours), median(theirs), median(ratios))
	return nil
}

func (b *bench) copyRows(ctx context.Context, size, writers int) (float64, error) {
	var rows atomic.Int64
	var group sync.WaitGroup
	errs := make(chan error, writers)
	start := time.Now()
	for range writers {
		group.Go(func() {
			for time.Since(start) < b.each {
				account, now := accountID(int(b.next.Add(1))%accounts), time.Now()
				_, err := b.pool.CopyFrom(ctx, pgx.Identifier{"bare_copy"},
					[]string{"account_id", "id", "credits", "category", "occurred_at", "recorded_at"},
					pgx.CopyFromSlice(size, func(int) ([]any, error) {
						return []any{account, fmt.Sprintf("c%d", b.next.Add(1)), int64(1), "rag", now, now}, nil
					}))
				if err != nil {
					errs <- err
					return
				}
				rows.Add(int64(size))
			}
		})
	}
	group.Wait()
	close(errs)
	return float64(rows.Load()) / time.Since(start).Seconds(), <-errs
}

func (b *bench) create(ctx context.Context) error {
	of := func(n int) []byte {
		return post("/v1/accounts/"+accountID(n%accounts)+"/keys", operatorToken, `{"name":"Default"}`)
	}
	bare := func(int) []byte { return post("/insert", operatorToken, fmt.Sprintf(`{"name":"%d"}`, b.next.Add(1))) }
	return b.compare(ctx, "create key, c=16", ">= 0.80 of Echo + one committed INSERT",
		load{b.server.addr, 16, of, nil}, load{b.bare.addr, 16, bare, nil})
}

// bogus floods the server with keys that were never made, and looks at what that does to good ones.
func (b *bench) bogus(ctx context.Context) error {
	good := func(n int) []byte { return post("/v1/keys/verify", serviceToken, verifyBody(n%1000)) }
	quiet, err := open(ctx, b.server.addr, 500, 4*time.Second, good)
	if err != nil {
		return err
	}
	before, err := b.keyLookups(ctx)
	if err != nil {
		return err
	}
	bad := post("/v1/keys/verify", serviceToken, `{"key":"`+rawKey(0)[:60]+`zzz"}`)
	flood := make(chan result, 1)
	go func() {
		r, _ := closed(ctx, b.server.addr, 16, 4*time.Second, func(int) []byte { return bad }, nil)
		flood <- r
	}()
	loud, err := open(ctx, b.server.addr, 500, 4*time.Second, good)
	if err != nil {
		return err
	}
	r := <-flood
	after, err := b.keyLookups(ctx)
	if err != nil {
		return err
	}
	b.row("| bogus keys, as many as can be sent | %.0f/s; good keys' p99 %.2f -> %.2f ms; %d look-ups of keys in the database meanwhile | | | 0 queries, p99 + < 20 %% |",
		r.rate, float64(quiet.p99.Microseconds())/1000, float64(loud.p99.Microseconds())/1000, after-before)
	return nil
}

// keyLookups is how often keys were looked up in the database. Postgres tells a second late.
func (b *bench) keyLookups(ctx context.Context) (n int64, err error) {
	time.Sleep(2 * time.Second)
	err = b.pool.QueryRow(ctx, `SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'api_keys_hash_key'`).Scan(&n)
	return n, err
}

// revoke revokes keys on three replicas under load, and counts what is accepted after the answer.
func (b *bench) revoke(ctx context.Context) error {
	replicas := []*process{b.server}
	for range 2 {
		p, err := startServer(ctx, b.binary, b.databaseURL, b.pepper)
		if err != nil {
			return err
		}
		defer p.stop()
		replicas = append(replicas, p)
	}
	var owner struct{ Key string }
	if status, err := replicas[0].call(ctx, "POST", "/v1/accounts/"+accountID(1)+"/keys", operatorToken, "", &owner); err != nil || status != 201 {
		return errors.Join(err, fmt.Errorf("owner: %d", status))
	}
	type key struct{ ID, Key string }
	keys := make([]key, b.revokes)
	for i := range keys {
		if _, err := replicas[0].call(ctx, "POST", "/v1/accounts/"+accountID(1)+"/keys", operatorToken, "", &keys[i]); err != nil {
			return err
		}
	}
	stop := make(chan struct{})
	var load sync.WaitGroup
	for i := range 6 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, _ = closed(ctx, replicas[i%3].addr, 4, 200*time.Millisecond, func(n int) []byte {
					return post("/v1/keys/verify", serviceToken, `{"key":"`+keys[n%len(keys)].Key+`"}`)
				}, nil)
			}
		})
	}
	var latencies []time.Duration
	accepted := 0
	for i, k := range keys {
		start := time.Now()
		status, err := replicas[i%3].call(ctx, "DELETE", "/v1/keys/"+k.ID, owner.Key, "", nil)
		latencies = append(latencies, time.Since(start))
		if err != nil || status != 204 {
			return errors.Join(err, fmt.Errorf("revoke: %d", status))
		}
		for _, p := range replicas {
			var v struct{ Valid bool }
			if _, err := p.call(ctx, "POST", "/v1/keys/verify", serviceToken, `{"key":"`+k.Key+`"}`, &v); err != nil {
				return err
			}
			if v.Valid {
				accepted++
			}
		}
	}
	close(stop)
	load.Wait()
	slices.Sort(latencies)
	b.row("| revoke, 3 replicas under load | p50 %.1f ms, p99 %.1f ms, %d accepted after the answer | | | p99 < 50 ms, 0 accepted |",
		float64(latencies[len(latencies)/2].Microseconds())/1000, float64(latencies[len(latencies)*99/100].Microseconds())/1000, accepted)
	return nil
}

func (b *bench) heading() string {
	if b.scale {
		return fmt.Sprintf("# The latest run of `make bench-scale`\n\n%d keys and %d events, a tenth and a fifth of them in one account. "+
			"Server, Postgres and the load share one machine.\n\n", scaleKeys, scaleEvents)
	}
	return fmt.Sprintf("# The latest run of `make bench`\n\n%d rounds of %s each, interleaved, medians. "+
		"Server, baselines, Postgres and the load share one machine.\n\n", b.rounds, b.each)
}

func (b *bench) write() error {
	if err := os.MkdirAll(filepath.Dir(b.out), 0o755); err != nil {
		return err
	}
	var text strings.Builder
	text.WriteString(b.heading())
	text.WriteString("| path | Keymeter /s | baseline /s | ratio | target |\n|---|---|---|---|---|\n")
	text.WriteString(strings.Join(b.rows, "\n") + "\n")
	return os.WriteFile(b.out, []byte(text.String()), 0o644)
}
