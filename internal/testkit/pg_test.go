package testkit

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/postgres"
)

func TestMain(m *testing.M) { Main(m) }

func TestDB(t *testing.T) {
	t.Parallel()
	a, b := DB(t), DB(t)
	_, err := a.Exec(t.Context(), "CREATE TABLE t (n int)")
	require.NoError(t, err)
	_, err = b.Exec(t.Context(), "SELECT FROM t")
	require.ErrorContains(t, err, "does not exist", "databases are separate")

	pending, err := postgres.Pending(t.Context(), a)
	require.NoError(t, err)
	require.False(t, pending, "databases are migrated")

	var zone string
	require.NoError(t, a.QueryRow(t.Context(), "SHOW timezone").Scan(&zone))
	require.Equal(t, timeZone, zone)
}

func TestDatabaseURL_isDroppedAfterTheTest(t *testing.T) {
	t.Parallel()
	var url string
	t.Run("test", func(t *testing.T) {
		url = DatabaseURL(t)
		conn, err := pgx.Connect(t.Context(), url) // a connection left open does not keep it from being dropped
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		require.NoError(t, conn.Ping(t.Context()))
	})
	_, err := pgx.Connect(t.Context(), url)
	require.ErrorContains(t, err, "does not exist")
}

func TestEnsureTemplate_onServerInUse(t *testing.T) {
	t.Parallel()
	adminURL, template, err := shared.get(t.Context())
	require.NoError(t, err)
	again, err := ensureTemplate(t.Context(), adminURL)
	require.NoError(t, err)
	require.Equal(t, template, again)
}

func TestSweep(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	young := filepath.Join(base, dirPrefix+"young")
	old := filepath.Join(base, dirPrefix+"old")
	other := filepath.Join(base, "other")
	for _, dir := range []string{young, old, other} {
		require.NoError(t, os.Mkdir(dir, 0o755))
	}
	past := time.Now().Add(-2 * patience)
	require.NoError(t, os.Chtimes(old, past, past))
	require.NoError(t, os.Chtimes(other, past, past))
	sweep(t.Context(), base)
	require.DirExists(t, young)
	require.NoDirExists(t, old)
	require.DirExists(t, other)
}

func TestModuleRoot(t *testing.T) {
	t.Parallel()
	require.FileExists(t, filepath.Join(moduleRoot(), "internal", "testkit", "pg.go"))
}

func BenchmarkDatabaseURL(b *testing.B) {
	for b.Loop() {
		DatabaseURL(b)
	}
}
