// Package testkit gives tests what they share, first of all databases.
package testkit

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keymeter/keymeter/db"
	"github.com/keymeter/keymeter/internal/devpostgres"
	"github.com/keymeter/keymeter/internal/postgres"
)

const (
	// timeZone of test databases is far from UTC, so that a missing conversion shows.
	timeZone = "Pacific/Auckland"
	// maxConnections of the server, and of one pool: enough for many parallel tests, each with concurrency of its own.
	maxConnections     = "200"
	maxPoolConnections = 8

	dirPrefix    = "keymeter-test-"
	patience     = time.Minute
	closeTimeout = 10 * time.Second
)

// server is the PostgreSQL server of this test process, started when the first test asks for a database.
type server struct {
	mu       sync.Mutex
	inMain   bool
	started  bool
	err      error // why it could not be started
	dir      string
	postgres *devpostgres.Server // nil if the server is not ours
	adminURL string
	template string
}

// shared is package state because testing offers no other way from TestMain to a test.
var shared server

// Main runs the tests and stops the database server after them. Each package that calls DB or DatabaseURL needs
//
//	func TestMain(m *testing.M) { testkit.Main(m) }
//
// The checks are of what tests that have all passed have left.
func Main(m *testing.M, checks ...func() error) {
	shared.mu.Lock()
	shared.inMain = true
	shared.mu.Unlock()
	code := m.Run()
	for _, check := range checks {
		if err := check(); code == 0 && err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if err := errors.Join(shared.stop(), built.remove()); err != nil {
		fmt.Fprintln(os.Stderr, "testkit: clean up:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// DB returns a pool on a fresh, migrated database of the test's own; both end with the test.
func DB(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	pool, err := postgres.Open(tb.Context(), DatabaseURL(tb), maxPoolConnections)
	if err != nil {
		tb.Fatal("testkit: ", err)
	}
	tb.Cleanup(func() { closePool(tb, pool) })
	return pool
}

// DatabaseURL is DB for tests that start processes or make pools of their own.
func DatabaseURL(tb testing.TB) string {
	tb.Helper()
	adminURL, template, err := shared.get(tb.Context())
	if err != nil {
		tb.Fatal("testkit: ", err)
	}
	name := "test_" + strings.ToLower(rand.Text())
	// Settings of a database are not copied with it, so the time zone has to be set on each.
	err = execute(tb.Context(), adminURL,
		"CREATE DATABASE "+name+" TEMPLATE "+template+" STRATEGY file_copy",
		"ALTER DATABASE "+name+" SET timezone = '"+timeZone+"'")
	if err != nil {
		tb.Fatal("testkit: create a database: ", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience) // the test's own is over by now
		defer cancel()
		if err := execute(ctx, adminURL, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Error("testkit: drop the database: ", err)
		}
	})
	return withDatabase(adminURL, name)
}

// closePool waits for connections in use, but not for ever: a test that keeps one should fail, not hang.
func closePool(tb testing.TB, pool *pgxpool.Pool) {
	tb.Helper()
	closed := make(chan struct{})
	go func() {
		pool.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
		tb.Errorf("testkit: the test did not give back %d database connections", pool.Stat().AcquiredConns())
	}
}

// get starts the server and makes the template at the first call.
func (s *server) get(ctx context.Context) (adminURL, template string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.inMain {
		return "", "", errors.New("this package lacks func TestMain(m *testing.M) { testkit.Main(m) }")
	}
	if !s.started {
		s.started = true
		// The server serves later tests as well, so the end of this one must not disturb its start.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*patience) // installing PostgreSQL takes time
		defer cancel()
		s.err = s.start(ctx)
	}
	return s.adminURL, s.template, s.err
}

func (s *server) start(ctx context.Context) error {
	s.adminURL = os.Getenv("KEYMETER_TEST_DATABASE_URL")
	if s.adminURL == "" {
		if err := s.startOwn(ctx); err != nil {
			return err
		}
		s.adminURL = s.postgres.URL("postgres")
	}
	var err error
	s.template, err = ensureTemplate(ctx, s.adminURL)
	return err
}

func (s *server) startOwn(ctx context.Context) error {
	base := scratchDir()
	sweep(ctx, base)
	dir, err := os.MkdirTemp(base, dirPrefix)
	if err != nil {
		return err
	}
	s.dir = dir
	if err := os.Chmod(dir, 0o711); err != nil { // root runs PostgreSQL as another user, who has to pass
		return err
	}
	o := devpostgres.Options{
		Dir:         dir,
		BinDir:      os.Getenv("KEYMETER_PG_BIN"),
		CacheDir:    filepath.Join(moduleRoot(), ".cache", "postgres"),
		TemplateDir: templateDir(),
		ExtraConfig: map[string]string{"max_connections": maxConnections},
	}
	s.postgres, err = devpostgres.Start(ctx, o)
	if err != nil && o.TemplateDir != "" {
		err = errors.Join(err, os.RemoveAll(o.TemplateDir)) // in case it was damaged
	}
	return err
}

func (s *server) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	if s.postgres != nil {
		err = s.postgres.Stop(ctx)
	}
	if s.dir != "" {
		err = errors.Join(err, devpostgres.Remove(ctx, s.dir))
	}
	return err
}

// ensureTemplate makes the database that test databases are copies of. Its name tells the migrations, so a server
// that outlives this process needs it made once only.
func ensureTemplate(ctx context.Context, adminURL string) (string, error) {
	sum, err := migrationsSum()
	if err != nil {
		return "", err
	}
	name := "keymeter_template_" + sum
	conn, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(ctx) }() // gives the lock back
	key := fnv.New32a()
	_, _ = key.Write([]byte(name))
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(key.Sum32())); err != nil {
		return "", err
	}
	var exists bool
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists)
	if err != nil || exists {
		return name, err
	}
	unfinished := name + "_new"
	for _, sql := range []string{"DROP DATABASE IF EXISTS " + unfinished + " WITH (FORCE)", "CREATE DATABASE " + unfinished} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return "", err
		}
	}
	if err := migrate(ctx, withDatabase(adminURL, unfinished)); err != nil {
		return "", err
	}
	_, err = conn.Exec(ctx, "ALTER DATABASE "+unfinished+" RENAME TO "+name)
	return name, err
}

func migrate(ctx context.Context, databaseURL string) error {
	pool, err := postgres.Open(ctx, databaseURL, 2)
	if err != nil {
		return err
	}
	defer pool.Close()
	return postgres.Migrate(ctx, pool)
}

// migrationsSum changes with every change of the migrations.
func migrationsSum() (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(db.Migrations, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := db.Migrations.ReadFile(path)
		_, _ = fmt.Fprintf(sum, "%s %d\n%s", path, len(content), content)
		return err
	})
	return fmt.Sprintf("%x", sum.Sum(nil)[:6]), err
}

// execute runs statements on a connection of its own: a pool kept for this would look like a leak to the tests.
func execute(ctx context.Context, databaseURL string, statements ...string) error {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}

func withDatabase(serverURL, name string) string {
	u, err := url.Parse(serverURL)
	if err != nil {
		return serverURL // cannot be: we have connected to it
	}
	u.Path = "/" + name
	return u.String()
}

// scratchDir is in memory if there is plenty of it: containers tend to have 64 MB, which a cluster soon fills.
func scratchDir() string {
	const memory, enough = "/dev/shm", 2 << 30
	var st syscall.Statfs_t
	if err := syscall.Statfs(memory, &st); err != nil || st.Bavail*uint64(st.Bsize) < enough {
		return os.TempDir()
	}
	probe, err := os.MkdirTemp(memory, "keymeter-probe-")
	if err != nil {
		return os.TempDir()
	}
	_ = os.Remove(probe)
	return memory
}

// sweep removes what killed test runs left. A folder in use is locked, but a new one only after a moment, hence the
// age. Failures are somebody else's folders.
func sweep(ctx context.Context, base string) {
	dirs, _ := filepath.Glob(filepath.Join(base, dirPrefix+"*"))
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > patience {
			_ = devpostgres.Remove(ctx, dir)
		}
	}
}

// templateDir is where a pristine cluster is kept between runs; empty if the user has no place for such things.
func templateDir() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(cache, "keymeter", "test-postgres")
}

// moduleRoot is the folder of go.mod; go test runs tests in the folder of their package.
func moduleRoot() string {
	wd, _ := os.Getwd()
	for dir := wd; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return cmp.Or(wd, os.TempDir())
		}
	}
}
