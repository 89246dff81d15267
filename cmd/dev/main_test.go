package main_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const patience = 2 * time.Minute

// dev is the development server, in a folder of its own.
type dev struct {
	t   *testing.T
	dir string
	cmd *exec.Cmd
}

func (d *dev) start() {
	d.t.Helper()
	_ = os.Remove(filepath.Join(d.dir, "ready"))
	d.cmd = exec.CommandContext(context.Background(), testkit.Binary(d.t, "./cmd/dev"))
	d.cmd.Dir = d.dir
	d.cmd.Env = append(os.Environ(), "KEYMETER_ADDR=127.0.0.1:0", "KEYMETER_DATABASE_URL=")
	log, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(d.t, err)
	defer func() { _ = log.Close() }()
	d.cmd.Stdout, d.cmd.Stderr = log, log
	require.NoError(d.t, d.cmd.Start())
	started := d.cmd
	d.t.Cleanup(func() { _ = started.Process.Kill() })
	d.wait("the server is ready", func() bool {
		url := d.env()["KEYMETER_URL"]
		if url == "" {
			return false
		}
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url+"/readyz", nil)
		require.NoError(d.t, err)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

// wait polls until a condition holds, and shows the log if it never does.
func (d *dev) wait(what string, holds func() bool) {
	d.t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(d.dir, "log"))
			d.t.Fatalf("not within %s: %s\n%s", patience, what, log)
		}
		<-tick.C
	}
}

// env reads what dev.env gives to a shell.
func (d *dev) env() map[string]string {
	content, err := os.ReadFile(filepath.Join(d.dir, ".keymeter", "dev.env"))
	if err != nil {
		return nil
	}
	env := map[string]string{}
	for line := range strings.Lines(string(content)) {
		if name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "="); ok {
			env[name] = value
		}
	}
	return env
}

func (d *dev) call(method, path, body string) (int, string) {
	d.t.Helper()
	env := d.env()
	req, err := http.NewRequestWithContext(context.Background(), method, env["KEYMETER_URL"]+path, strings.NewReader(body))
	require.NoError(d.t, err)
	req.Header.Set("Authorization", "Bearer "+env["KEYMETER_API_KEY"])
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	require.NoError(d.t, err)
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	require.NoError(d.t, err)
	return res.StatusCode, string(got)
}

// postgresProcesses returns the ids of the processes of the private Postgres.
func (d *dev) postgresProcesses() (pids []string) {
	commands, err := filepath.Glob("/proc/[0-9]*/cwd")
	require.NoError(d.t, err)
	for _, link := range commands {
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, d.dir+"/") {
			pids = append(pids, link)
		}
	}
	return pids
}

// newDev starts a server in a folder of its own.
func newDev(t *testing.T) *dev {
	t.Helper()
	dir, err := os.MkdirTemp("", "keymeter-dev-") //nolint:usetesting // root's Postgres can't enter what TempDir makes
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755)) // root runs Postgres as another user, who has to pass
	d := &dev{t: t, dir: dir}
	d.start()
	return d
}

// What make run starts keeps its data over a crash, and ends whole.
func TestDevelopmentServer(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	dir := d.dir
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	info, err := os.Stat(filepath.Join(dir, ".keymeter", "dev.env"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	// The demo account subscribes.
	status, body := d.call(http.MethodPost, "/v1/billing/checkout",
		`{"tier":"pro","successUrl":"http://127.0.0.1/ok","cancelUrl":"http://127.0.0.1/no"}`)
	require.Equal(t, http.StatusOK, status, body)
	page := regexp.MustCompile(`"url":"([^"]+)"`).FindStringSubmatch(body)[1]
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, page+"/complete", nil)
	require.NoError(t, err)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	require.NoError(t, err)
	_ = res.Body.Close()
	require.Equal(t, http.StatusSeeOther, res.StatusCode)
	subscribed := func() bool {
		_, body := d.call(http.MethodGet, "/v1/billing/subscription", "")
		return strings.Contains(body, `"tier":"pro"`)
	}
	d.wait("the demo account is on pro", subscribed)

	t.Run("docs", func(t *testing.T) {
		for _, path := range []string{"/docs", "/openapi.yaml", "/openapi.json"} {
			status, _ := d.call(http.MethodGet, path, "")
			require.Equal(t, http.StatusOK, status, path)
		}
	})
	t.Run("it comes back from a kill with its data", func(t *testing.T) {
		before := d.env()
		require.NoError(t, d.cmd.Process.Kill())
		_ = d.cmd.Wait()
		require.NoError(t, os.Chtimes(filepath.Join(dir, ".keymeter", "dev.env"), time.Unix(0, 0), time.Unix(0, 0)))
		d.start()
		d.wait("dev.env is of this run", func() bool {
			return d.env()["KEYMETER_URL"] != before["KEYMETER_URL"] && subscribed()
		})
		require.Equal(t, before["KEYMETER_API_KEY"], d.env()["KEYMETER_API_KEY"])
		status, body := d.call(http.MethodPost, "/v1/billing/portal", "")
		require.Equal(t, http.StatusOK, status, body)
	})
	t.Run("an interrupt ends everything", func(t *testing.T) {
		require.NotEmpty(t, d.postgresProcesses())
		require.NoError(t, d.cmd.Process.Signal(os.Interrupt))
		require.NoError(t, d.cmd.Wait())
		require.Empty(t, d.postgresProcesses())
	})
	t.Run("two at once in one folder are refused", func(t *testing.T) {
		d.start()
		second := exec.CommandContext(ctx, testkit.Binary(t, "./cmd/dev"))
		second.Dir, second.Env = dir, d.cmd.Env
		out, err := second.CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), ".keymeter", fmt.Sprint(string(out)))
		require.NoError(t, d.cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, d.cmd.Wait())
	})
}
