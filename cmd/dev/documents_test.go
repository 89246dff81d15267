package main_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/testkit"
)

// What the documents tell a reader to do works to the letter: the blocks of each run in order, in one shell, beside one
// development server for all.
func TestDocuments(t *testing.T) {
	t.Parallel()
	documents, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	d := newDev(t)
	ran := 0
	for _, path := range append([]string{"../../README.md"}, documents...) {
		script, blocks := story(t, path)
		if blocks == 0 {
			continue
		}
		ran++
		t.Run(filepath.Base(path), func(t *testing.T) { runStory(t, d.dir, script) })
	}
	require.GreaterOrEqual(t, ran, 6, "documents with commands")
}

// shBlock is a block of commands, and the line before it if that marks it as one that is run.
var shBlock = regexp.MustCompile("(?ms)^(<!-- story -->\n+)?```(?:sh|bash|shell)\n(.*?)^```")

// story is the marked blocks of a document as one script.
func story(t *testing.T, path string) (script string, blocks int) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	name, all := filepath.Base(path), &strings.Builder{}
	for _, at := range shBlock.FindAllSubmatchIndex(text, -1) {
		line := bytes.Count(text[:at[4]], []byte("\n"))
		if at[2] < 0 {
			t.Errorf("%s:%d: commands that are not run; mark them <!-- story -->, or fence them as text", name, line)
		}
		blocks++
		all.WriteString("echo '--- " + name + ":" + strconv.Itoa(line) + "'\n" + string(text[at[4]:at[5]]))
	}
	return all.String(), blocks
}

// runStory runs a script in a folder, with the keymeter of this tree in the PATH. The settings that a document can't
// know are of an empty database and a free port.
func runStory(t *testing.T, dir, script string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	shell.Dir = dir
	shell.Env = append(os.Environ(), "PATH="+filepath.Dir(testkit.Binary(t, "./cmd/keymeter"))+":"+os.Getenv("PATH"),
		"KEYMETER_DATABASE_URL="+emptyDatabase(t), "KEYMETER_ADDR="+freeAddress(t))
	// A document starts servers, too: they are of the shell's group, and end with it.
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	shell.Cancel = func() error { return syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) }
	shell.WaitDelay = 5 * time.Second
	out, err := shell.CombinedOutput()
	_ = syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) // if nothing is left, that is well
	require.NoError(t, err, string(out))
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

func freeAddress(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}
