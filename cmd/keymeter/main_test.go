package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/app"
	"github.com/keymeter/keymeter/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const (
	serviceToken  = "test-service-token-0123456789abcdef"
	operatorToken = "test-operator-token-0123456789abcdef"
	pepper        = "1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
)

func command(t *testing.T, environment []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testkit.Binary(t, "./cmd/keymeter"), args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, environment...)
	return cmd
}

// run runs a command to its end and returns what it printed.
func run(t *testing.T, environment []string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := command(t, environment, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return strings.TrimSpace(out.String()), errOut.String(), err
}

func settings(databaseURL string) []string {
	return []string{
		"KEYMETER_DATABASE_URL=" + databaseURL, "KEYMETER_PEPPERS=" + pepper, "KEYMETER_ADDR=127.0.0.1:0",
		"KEYMETER_SERVICE_TOKENS=" + serviceToken, "KEYMETER_OPERATOR_TOKENS=" + operatorToken,
	}
}

// emptyDatabase returns a database without a schema.
func emptyDatabase(t *testing.T) string {
	t.Helper()
	url := testkit.DatabaseURL(t)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(t.Context(), "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
	require.NoError(t, err)
	return url
}

// server starts the server and returns where it is.
func server(t *testing.T, environment []string) (url string, cmd *exec.Cmd) {
	t.Helper()
	cmd = command(t, environment, "serve")
	logs, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var line struct{ Msg, Address string }
	decoder := json.NewDecoder(logs)
	for line.Msg != "serving" {
		require.NoError(t, decoder.Decode(&line))
	}
	go func() { _, _ = io.Copy(io.Discard, io.MultiReader(decoder.Buffered(), logs)) }()
	return "http://" + line.Address, cmd
}

func get(t *testing.T, url, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(body)
}

// From an empty database to a key that works, as an operator does it.
func TestOperate(t *testing.T) {
	t.Parallel()
	env := settings(emptyDatabase(t))

	_, stderr, err := run(t, env, "serve")
	require.Error(t, err)
	require.Contains(t, stderr, "keymeter migrate")

	for range 2 {
		_, stderr, err = run(t, env, "migrate")
		require.NoError(t, err, stderr)
	}
	accountID, stderr, err := run(t, env, "account", "create", "--name", "Acme", "--external-id", "42")
	require.NoError(t, err, stderr)
	require.Regexp(t, `^acct_`, accountID)
	_, stderr, err = run(t, env, "account", "create", "--name", "Acme", "--external-id", "42")
	require.Error(t, err)
	require.Contains(t, stderr, "account_exists")
	key, stderr, err := run(t, env, "key", "create", "--account", accountID, "--expires-in-days", "1")
	require.NoError(t, err, stderr)
	require.Regexp(t, `^plabs_sk_live_`, key)
	_, stderr, err = run(t, env, "key", "create", "--account", "acct_nobody")
	require.Error(t, err)
	require.Contains(t, stderr, "account_not_found")
	_, stderr, err = run(t, env, "key", "create", "--account", accountID, "--expires-in-days", "366")
	require.Error(t, err)
	require.Contains(t, stderr, "expiresInDays must be at most 365")
	_, stderr, err = run(t, env, "account", "create", "--name", strings.Repeat("x", 101))
	require.Error(t, err)
	require.Contains(t, stderr, "name must have at most 100 characters")

	url, cmd := server(t, env)
	status, body := get(t, url+"/v1/keys", key)
	require.Equal(t, http.StatusOK, status, body)
	require.Contains(t, body, `"lastUsedAt":null`)

	t.Run("a stop writes what is in memory and ends well", func(t *testing.T) {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, cmd.Wait())
		url, again := server(t, env)
		_, body := get(t, url+"/v1/keys", key)
		require.NotContains(t, body, `"lastUsedAt":null`)
		require.NoError(t, again.Process.Signal(os.Interrupt))
		require.NoError(t, again.Wait())
	})
}

func TestSettingsAreChecked(t *testing.T) {
	t.Parallel()
	good := settings("postgres://nobody@127.0.0.1:1/none")
	for _, tc := range []struct{ name, setting, says string }{
		{"pepper too short", "KEYMETER_PEPPERS=1:AAAA", "pepper 1 has 3 bytes"},
		{"pepper without version", "KEYMETER_PEPPERS=AAAA", "KEYMETER_PEPPERS"},
		{"pepper not base 64", "KEYMETER_PEPPERS=1:?", "base 64"},
		{"token too short", "KEYMETER_SERVICE_TOKENS=short", "service token has 5 characters"},
		{"vendor", "KEYMETER_KEY_VENDOR=Bad Vendor", "key vendor"},
		{"environment", "KEYMETER_KEY_ENVIRONMENT=prod", "key environment"},
		{"catalogue", "KEYMETER_CATALOGUE=/nowhere.yaml", "catalogue"},
		{"origin", "KEYMETER_ALLOWED_ORIGINS=yourapp.com", "allowed origin"},
		{"portal", "KEYMETER_PORTAL_RETURN_URL=/back", "portal return URL"},
		{"log format", "KEYMETER_LOG_FORMAT=xml", "KEYMETER_LOG_FORMAT"},
		{"log level", "KEYMETER_LOG_LEVEL=LOUD", "LogLevel"},
		{"duration", "KEYMETER_SHUTDOWN_TIMEOUT=soon", "ShutdownTimeout"},
		{"no webhook secret", "KEYMETER_STRIPE_SECRET_KEY=sk_test_x", "KEYMETER_STRIPE_WEBHOOK_SECRETS"},
		{"database", "KEYMETER_DATABASE_URL=nonsense://", "database url"},
		{"no database there", "KEYMETER_DATABASE_URL=postgres://nobody@127.0.0.1:1/none", "connect"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, stderr, err := run(t, append(good[:len(good):len(good)], tc.setting), "serve")
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			require.Equal(t, 1, exit.ExitCode())
			require.Contains(t, stderr, tc.says)
			require.NotContains(t, stderr, "AAAAAAAA", "no secret is repeated")
		})
	}
	_, stderr, err := run(t, nil, "serve")
	require.Error(t, err)
	require.Contains(t, stderr, "KEYMETER_DATABASE_URL")
	require.Contains(t, stderr, "KEYMETER_PEPPERS")
}

var (
	helpLine   = regexp.MustCompile(`(?m)^ +(KEYMETER_\w+) .*?(?: \((?:default (\S+)|required)\))?$`)
	settingRow = regexp.MustCompile("(?m)^\\| `(KEYMETER_\\w+)`(?: †)? \\| (?:`([^`]+)`|[^|]+) \\|")
)

// The settings that there are, the ones that the help lists and the ones that docs/operations.md lists are the same, with
// the same defaults.
func TestSettingsAreListed(t *testing.T) {
	t.Parallel()
	help, _, err := run(t, nil, "serve", "--help")
	require.NoError(t, err)
	document, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	want := map[string]string{}
	for field := range reflect.TypeFor[app.Config]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
		want[name] = field.Tag.Get("envDefault")
	}
	require.Equal(t, want, defaults(helpLine, help))
	require.Equal(t, want, defaults(settingRow, string(document)))
}

func defaults(line *regexp.Regexp, text string) map[string]string {
	found := map[string]string{}
	for _, match := range line.FindAllStringSubmatch(text, -1) {
		found[match[1]] = match[2]
	}
	return found
}

func TestVersion(t *testing.T) {
	t.Parallel()
	stdout, _, err := run(t, nil, "version")
	require.NoError(t, err)
	require.Regexp(t, `^keymeter \S+ go1\.`, stdout)
}

// A request that is running when the server is told to stop gets its answer.
func TestShutdownDrains(t *testing.T) {
	t.Parallel()
	databaseURL := testkit.DatabaseURL(t)
	env := settings(databaseURL)
	accountID, stderr, err := run(t, env, "account", "create", "--name", "Acme")
	require.NoError(t, err, stderr)
	key, stderr, err := run(t, env, "key", "create", "--account", accountID)
	require.NoError(t, err, stderr)
	url, cmd := server(t, env)
	status, _ := get(t, url+"/v1/usage", key) // opens the period
	require.Equal(t, http.StatusOK, status)

	// Hold the row that a spend needs, so that the request is running when the signal comes.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, databaseURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	tx, err := conn.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, `SELECT FROM balances WHERE account_id = $1 FOR UPDATE`, accountID)
	require.NoError(t, err)
	answered := make(chan int, 1)
	go func() {
		body := `{"id":"e1","accountId":"` + accountID + `","category":"rag","credits":1}`
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/usage/events", strings.NewReader(body))
		if err != nil {
			answered <- 0
			return
		}
		req.Header.Set("Authorization", "Bearer "+serviceToken)
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			answered <- 0
			return
		}
		_ = res.Body.Close()
		answered <- res.StatusCode
	}()
	require.Eventually(t, func() bool { // the request waits for the row
		var waiting int
		err := tx.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting)
		return err == nil && waiting > 0
	}, 30*time.Second, 10*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool { // it no longer takes new ones
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz", nil)
		require.NoError(t, err)
		res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			return true
		}
		_ = res.Body.Close()
		return false
	}, 30*time.Second, 10*time.Millisecond)
	require.NoError(t, tx.Rollback(ctx))
	require.Equal(t, http.StatusOK, <-answered)
	require.NoError(t, cmd.Wait())
}
