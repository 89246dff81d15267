package testkit

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// pollEvery is how long a test looks away from what it waits for.
const pollEvery = time.Millisecond

// Eventually waits until a condition holds, and fails the test if it does not within a minute.
func Eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	deadline := time.After(patience)
	for !holds() {
		select {
		case <-ticker.C:
		case <-deadline:
			tb.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// AwaitLocked waits until so many connections to the pool's database wait for locks.
func AwaitLocked(tb testing.TB, pool *pgxpool.Pool, connections int) {
	tb.Helper()
	Eventually(tb, "connections that wait for locks", func() bool {
		var n int
		err := pool.QueryRow(context.Background(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&n)
		return err == nil && n == connections
	})
}
