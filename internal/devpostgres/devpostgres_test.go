package devpostgres

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// ownerDirEnv turns the test binary into a program that owns a cluster until it is killed.
const ownerDirEnv = "DEVPOSTGRES_TEST_OWNER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(ownerDirEnv); dir != "" {
		ownUntilKilled(dir)
	}
	os.Exit(m.Run())
}

func ownUntilKilled(dir string) {
	s, err := Start(context.Background(), testOptions(dir, true))
	if err != nil {
		_, _ = fmt.Fprintln(os.Stdout, "failed:", err)
		os.Exit(1)
	}
	_, _ = fmt.Fprintln(os.Stdout, "ready", s.process.handle.Pid, s.URL("postgres"))
	time.Sleep(time.Minute) // a test that dies must not leave us behind for ever
	os.Exit(1)
}

func testOptions(dir string, durable bool) Options {
	return Options{
		Dir:      dir,
		Durable:  durable,
		BinDir:   os.Getenv("KEYMETER_PG_BIN"),
		CacheDir: filepath.Join("..", "..", ".cache", "postgres"),
	}
}

// clusterDir is t.TempDir for a cluster: the user whom root runs postgres as can pass it.
func clusterDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "devpostgres-test-") //nolint:usetesting // t.TempDir is closed to other users
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o711))
	t.Cleanup(func() { require.NoError(t, Remove(context.Background(), dir)) })
	return dir
}

func startServer(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { stopServer(t, s) })
	return s
}

func stopServer(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	require.NoError(t, s.Stop(ctx))
}

func exec1(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	_, err = conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func ask[T any](t *testing.T, url, sql string) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	var v T
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&v))
	return v
}

func TestStart_keepsDataAcrossRuns(t *testing.T) {
	t.Parallel()
	for _, durable := range []bool{true, false} {
		t.Run(fmt.Sprintf("durable=%t", durable), func(t *testing.T) {
			t.Parallel()
			o := testOptions(clusterDir(t), durable)
			s := startServer(t, o)
			require.NoError(t, s.EnsureDatabase(t.Context(), "key-meter"))
			require.NoError(t, s.EnsureDatabase(t.Context(), "key-meter"))
			exec1(t, s.URL("key-meter"), "CREATE TABLE t AS SELECT 7 AS n")
			stopServer(t, s)
			require.NoFileExists(t, filepath.Join(o.Dir, "data", "postmaster.pid"))

			s = startServer(t, o)
			require.Equal(t, 7, ask[int](t, s.URL("key-meter"), "SELECT n FROM t"))
		})
	}
}

func TestStart_settings(t *testing.T) {
	t.Parallel()
	o := testOptions(clusterDir(t), false)
	o.ExtraConfig = map[string]string{"max_connections": "33"}
	s := startServer(t, o)
	for name, want := range map[string]string{
		"max_connections":         "33",
		"fsync":                   "off",
		"listen_addresses":        "127.0.0.1",
		"unix_socket_directories": "",
		"server_encoding":         "UTF8",
		"lc_collate":              "C",
	} {
		const setting = "SELECT coalesce(max(setting), 'C') FROM pg_settings WHERE name = '%s'" // lc_collate is gone since 16
		require.Equal(t, want, ask[string](t, s.URL("postgres"), fmt.Sprintf(setting, name)), name)
	}
}

func TestStart_durableClusterAsksForPassword(t *testing.T) {
	t.Parallel()
	o := testOptions(clusterDir(t), true)
	s := startServer(t, o)
	require.Equal(t, "on", ask[string](t, s.URL("postgres"), "SHOW fsync"))
	_, err := pgx.Connect(t.Context(), strings.Replace(s.URL("postgres"), s.password, "guess", 1))
	require.ErrorContains(t, err, "password authentication failed")

	info, err := os.Stat(filepath.Join(o.Dir, "password"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	stopServer(t, s)

	require.NoError(t, os.WriteFile(filepath.Join(o.Dir, "password"), []byte("other"), 0o600))
	_, err = Start(t.Context(), o)
	require.ErrorContains(t, err, "does not fit the cluster")
}

func TestStart_refusesSecondOwner(t *testing.T) {
	t.Parallel()
	o := testOptions(clusterDir(t), false)
	s := startServer(t, o)
	_, err := Start(t.Context(), o)
	require.ErrorContains(t, err, "in use by another process (pid "+strconv.Itoa(os.Getpid())+")")
	require.ErrorContains(t, Remove(t.Context(), o.Dir), "in use by another process")
	require.Equal(t, 1, ask[int](t, s.URL("postgres"), "SELECT 1"), "the first one goes on")
}

func TestStart_takenPort(t *testing.T) {
	t.Parallel()
	first := startServer(t, testOptions(clusterDir(t), false))
	o := testOptions(clusterDir(t), false)
	o.Port = first.port
	_, err := Start(t.Context(), o)
	require.ErrorContains(t, err, "ould not") // "could not bind", in PostgreSQL's words
	require.ErrorContains(t, err, strconv.Itoa(first.port))
}

func TestStart_otherVersion(t *testing.T) {
	t.Parallel()
	o := testOptions(clusterDir(t), false)
	s := startServer(t, o)
	stopServer(t, s)
	version := filepath.Join(o.Dir, "data", "PG_VERSION")
	require.NoError(t, os.WriteFile(version, []byte("12\n"), 0o600))
	_, err := Start(t.Context(), o)
	require.ErrorContains(t, err, "written by PostgreSQL 12")
}

func TestStart_fromTemplate(t *testing.T) {
	t.Parallel()
	templates := filepath.Join(t.TempDir(), "templates")
	for range 2 { // the first makes the template, the second uses it
		o := testOptions(clusterDir(t), false)
		o.TemplateDir = templates
		s := startServer(t, o)
		exec1(t, s.URL("postgres"), "CREATE TABLE t AS SELECT 7 AS n")
		stopServer(t, s)
	}
	entries, err := os.ReadDir(templates)
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

func TestStop(t *testing.T) {
	t.Parallel()
	s := startServer(t, testOptions(clusterDir(t), false))
	conn, err := pgx.Connect(t.Context(), s.URL("postgres")) // does not keep the server from stopping
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	stopServer(t, s)
	requireClosed(t, s.Done())
	require.ErrorIs(t, syscall.Kill(s.process.handle.Pid, 0), syscall.ESRCH)
	stopServer(t, s)
}

func TestStop_killsAfterDeadline(t *testing.T) {
	t.Parallel()
	o := testOptions(clusterDir(t), false)
	s := startServer(t, o)
	require.NoError(t, s.process.handle.Signal(syscall.SIGSTOP)) // a server that hangs
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Stop(ctx), context.DeadlineExceeded)
	requireClosed(t, s.Done())

	s = startServer(t, o)
	require.Equal(t, 1, ask[int](t, s.URL("postgres"), "SELECT 1"))
}

func TestUnlock_whileAChildHasTheFileOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lock, err := lockDir(dir)
	require.NoError(t, err)
	childs, err := syscall.Dup(int(lock.Fd()))
	require.NoError(t, err)
	defer func() { _ = syscall.Close(childs) }()
	require.NoError(t, unlock(lock))
	again, err := lockDir(dir)
	require.NoError(t, err)
	require.NoError(t, unlock(again))
}

func TestDone_whenTheServerDies(t *testing.T) {
	t.Parallel()
	s := startServer(t, testOptions(clusterDir(t), false))
	require.NoError(t, s.process.handle.Signal(syscall.SIGQUIT))
	requireClosed(t, s.Done())
}

func TestStart_afterOwnerWasKilled(t *testing.T) {
	t.Parallel()
	dir := clusterDir(t)
	self, err := os.Executable()
	require.NoError(t, err)
	owner := exec.Command(self)
	owner.Env = append(os.Environ(), ownerDirEnv+"="+dir)
	out, err := owner.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, owner.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	var pid int
	var url string
	_, err = fmt.Sscanf(line, "ready %d %s", &pid, &url)
	require.NoError(t, err, line)

	_, err = Start(t.Context(), testOptions(dir, true))
	require.ErrorContains(t, err, "in use by another process")
	exec1(t, url, "CREATE TABLE t AS SELECT 7 AS n")
	require.NoError(t, owner.Process.Kill())
	_ = owner.Wait()

	s := startServer(t, testOptions(dir, true))
	require.Equal(t, 7, ask[int](t, s.URL("postgres"), "SELECT n FROM t"))
	require.False(t, isPostgres(t.Context(), pid, filepath.Join(dir, "data")), "the server of the killed owner is gone")
}

// Where the kernel does not end the server with its owner, the next owner does. Here the present owner stands in
// for the dead one.
func TestStopStray(t *testing.T) {
	t.Parallel()
	o := testOptions(clusterDir(t), false)
	s := startServer(t, o)
	require.NoError(t, stopStray(t.Context(), filepath.Join(o.Dir, "data"), slog.New(slog.DiscardHandler)))
	requireClosed(t, s.Done())
}

func TestStopStray_leavesOthersAlone(t *testing.T) {
	t.Parallel()
	other := exec.Command("sleep", "60")
	require.NoError(t, other.Start())
	t.Cleanup(func() { _ = other.Process.Kill(); _ = other.Wait() })
	dataDir := t.TempDir()
	pidFile := filepath.Join(dataDir, "postmaster.pid")
	for _, content := range []string{"", "x\n", "1\n/\n", fmt.Sprintf("%d\n%s\n", other.Process.Pid, dataDir)} {
		require.NoError(t, os.WriteFile(pidFile, []byte(content), 0o600))
		require.NoError(t, stopStray(t.Context(), dataDir, slog.New(slog.DiscardHandler)))
	}
	require.NoFileExists(t, pidFile, "postgres would take the number for a running server")
	require.NoError(t, other.Process.Signal(syscall.Signal(0)))
}

func TestStart_unreachableDir(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs postgres as another user")
	}
	dir := filepath.Join(t.TempDir(), "pg") // below a folder that is closed to other users
	t.Cleanup(func() {
		require.NoError(t, Remove(context.Background(), dir))
		require.NoDirExists(t, substituteDir(dir))
	})
	for range 2 {
		s := startServer(t, testOptions(dir, true))
		exec1(t, s.URL("postgres"), "CREATE TABLE IF NOT EXISTS t AS SELECT 7 AS n")
		require.Equal(t, 7, ask[int](t, s.URL("postgres"), "SELECT n FROM t"))
		require.DirExists(t, filepath.Join(substituteDir(dir), "data"))
		stopServer(t, s)
	}
}

func requireClosed(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(30 * time.Second):
		t.Fatal("the server is still running")
	}
}
