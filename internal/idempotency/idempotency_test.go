package idempotency

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/postgres"
	"github.com/keymeter/keymeter/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var pepper = bytes.Repeat([]byte{7}, 32)

type answer struct{ Secret string }

// bench is a keeper on a database.
type bench struct {
	*Keeper
	clock *testkit.Clock
}

func newBench(t *testing.T) *bench {
	t.Helper()
	// A fraction below a microsecond, which Postgres does not keep.
	clock := testkit.NewClock(time.Date(2026, 3, 21, 10, 30, 0, 123456789, time.UTC))
	return &bench{Keeper: New(testkit.DB(t), clock.Now, rand.Reader, pepper), clock: clock}
}

func request(key string) Request { return Request{Scope: "acct_1", Key: key, Content: "POST /v1/keys"} }

// once answers with the secret, and counts how often it was asked.
func once(secret string, runs *atomic.Int32) func() (answer, error) {
	return func() (answer, error) {
		runs.Add(1)
		return answer{secret}, nil
	}
}

func count(t *testing.T, pool *pgxpool.Pool) int {
	t.Helper()
	var n int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM idempotency_keys`).Scan(&n))
	return n
}

// A kept answer opens with the caller's own Idempotency-Key and the server's pepper, and with nothing less: not even to
// somebody who may write to the database and moves it to a request of their own.
func TestSealedAnswer(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var runs atomic.Int32
	for _, key := range []string{"the-caller's", "an attacker's"} {
		_, err := Do(t.Context(), b.Keeper, request(key), once("raw-key-of-"+key, &runs))
		require.NoError(t, err)
	}
	other := request("the-caller's")
	other.Scope = "acct_2"
	_, err := Do(t.Context(), b.Keeper, other, once("raw-key-of-another-account", &runs))
	require.NoError(t, err)
	require.Equal(t, int32(3), runs.Load())

	victim, err := b.entry(request("the-caller's"))
	require.NoError(t, err)
	sealed, err := find(t.Context(), b.pool, victim)
	require.NoError(t, err)
	require.NotContains(t, string(sealed.answer), "raw-key")
	open := func(k *Keeper, r Request) ([]byte, error) {
		e, err := k.entry(r)
		require.NoError(t, err)
		size := e.seal.NonceSize()
		// The fingerprint that it is bound to can be read in the table, so whoever tries has it.
		return e.seal.Open(nil, sealed.answer[:size], sealed.answer[size:], victim.fingerprint)
	}
	plain, err := open(b.Keeper, request("the-caller's"))
	require.NoError(t, err)
	require.JSONEq(t, `{"Secret":"raw-key-of-the-caller's"}`, string(plain))

	otherPepper := New(b.pool, b.clock.Now, rand.Reader, bytes.Repeat([]byte{8}, 32))
	for name, try := range map[string]struct {
		keeper  *Keeper
		request Request
	}{
		"another Idempotency-Key": {b.Keeper, request("an attacker's")},
		"no Idempotency-Key":      {b.Keeper, request("")},
		"another account":         {b.Keeper, other},
		"another pepper":          {otherPepper, request("the-caller's")},
		"no pepper":               {New(b.pool, b.clock.Now, rand.Reader, nil), request("the-caller's")},
	} {
		_, err := open(try.keeper, try.request)
		require.Error(t, err, name)
	}
	t.Run("moved to another request", func(t *testing.T) {
		_, err := b.pool.Exec(t.Context(), `
			UPDATE idempotency_keys SET answer = $1, fingerprint = $2 WHERE scope = 'acct_2'`, sealed.answer, mustEntry(t, b, other).fingerprint)
		require.NoError(t, err)
		_, err = Do(t.Context(), b.Keeper, other, once("", &runs))
		require.ErrorContains(t, err, "open a kept answer")
	})
	t.Run("changed", func(t *testing.T) {
		for i := range sealed.answer {
			changed := bytes.Clone(sealed.answer)
			changed[i] ^= 1
			_, err := victim.seal.Open(nil, changed[:victim.seal.NonceSize()], changed[victim.seal.NonceSize():], victim.fingerprint)
			require.Error(t, err)
		}
		for _, cut := range [][]byte{{}, sealed.answer[:5], sealed.answer[:victim.seal.NonceSize()]} {
			_, err := b.pool.Exec(t.Context(), `UPDATE idempotency_keys SET answer = $1 WHERE scope = 'acct_2'`, cut)
			require.NoError(t, err)
			_, err = Do(t.Context(), b.Keeper, other, once("", &runs))
			require.Error(t, err, "%d bytes", len(cut))
		}
	})
	t.Run("with another pepper the request is a new one", func(t *testing.T) {
		got, err := Do(t.Context(), otherPepper, request("the-caller's"), once("new", &runs))
		require.NoError(t, err)
		require.Equal(t, answer{"new"}, got)
	})
	require.Equal(t, int32(4), runs.Load())
}

func mustEntry(t *testing.T, b *bench, r Request) entry {
	t.Helper()
	e, err := b.entry(r)
	require.NoError(t, err)
	return e
}

// The same answer is never sealed to the same bytes, so that nothing can be told from two that are alike.
func TestAnswersDoNotRepeat(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var runs atomic.Int32
	var kept [][]byte
	for range 2 {
		_, err := Do(t.Context(), b.Keeper, request("k"), once("s", &runs))
		require.NoError(t, err)
		stored, err := find(t.Context(), b.pool, mustEntry(t, b, request("k")))
		require.NoError(t, err)
		kept = append(kept, stored.answer)
		b.clock.Advance(Lifetime)
	}
	require.Equal(t, int32(2), runs.Load())
	require.NotEqual(t, kept[0], kept[1])
}

// A process that dies within fn leaves a claim. For its lifetime nobody else runs fn; then somebody may.
func TestDoAfterACrash(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var runs atomic.Int32
	crashed := make(chan struct{})
	go func() {
		defer close(crashed)
		defer func() { _ = recover() }()
		_, _ = Do(context.Background(), b.Keeper, request("k"), func() (answer, error) { panic("the process dies here") })
	}()
	<-crashed
	require.Equal(t, 1, count(t, b.pool))
	_, err := Do(t.Context(), b.Keeper, request("k"), once("second", &runs))
	require.ErrorIs(t, err, ErrInProgress)

	b.clock.Advance(claimLifetime - 2*time.Microsecond)
	_, err = Do(t.Context(), b.Keeper, request("k"), once("second", &runs))
	require.ErrorIs(t, err, ErrInProgress)
	require.Zero(t, runs.Load())

	b.clock.Advance(2 * time.Microsecond)
	changed := request("k")
	changed.Content = "another"
	_, err = Do(t.Context(), b.Keeper, changed, once("other", &runs))
	require.ErrorIs(t, err, ErrReused, "it is still the key of its request")
	got, err := Do(t.Context(), b.Keeper, request("k"), once("second", &runs))
	require.NoError(t, err)
	require.Equal(t, answer{"second"}, got)
	got, err = Do(t.Context(), b.Keeper, request("k"), once("third", &runs))
	require.NoError(t, err)
	require.Equal(t, answer{"second"}, got)
	require.Equal(t, int32(1), runs.Load())
}

// Of many that find a dead claim, one takes it over.
func TestDoTakesOverOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	func() {
		defer func() { _ = recover() }()
		_, _ = Do(t.Context(), b.Keeper, request("k"), func() (answer, error) { panic("the process dies here") })
	}()
	b.clock.Advance(claimLifetime)
	var runs atomic.Int32
	release := make(chan struct{})
	errs := make(chan error)
	const callers = 8
	for range callers {
		go func() {
			_, err := Do(t.Context(), b.Keeper, request("k"), func() (answer, error) {
				runs.Add(1)
				<-release // nobody gets its answer before the others have asked
				return answer{"s"}, nil
			})
			errs <- err
		}()
	}
	for range callers - 1 {
		require.ErrorIs(t, <-errs, ErrInProgress)
	}
	close(release)
	require.NoError(t, <-errs)
	require.Equal(t, int32(1), runs.Load())
}

// A slow request whose claim was taken over must not end the claim of the one that has it now.
func TestDoThatWasTakenOver(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	boom := errors.New("boom")
	_, err := Do(t.Context(), b.Keeper, request("k"), func() (answer, error) {
		b.clock.Advance(claimLifetime)
		claimed, err := claim(t.Context(), b.pool, mustEntry(t, b, request("k")), ptr(b.clock.Now().Add(claimLifetime)))
		require.NoError(t, err)
		require.True(t, claimed)
		return answer{}, boom
	})
	require.ErrorIs(t, err, boom)
	require.Equal(t, 1, count(t, b.pool), "the claim of the other is still there")
	_, err = Do(t.Context(), b.Keeper, request("k"), once("", new(atomic.Int32)))
	require.ErrorIs(t, err, ErrInProgress)
}

// A slow request whose claim was taken over does not put its answer in the place of one that was given already.
func TestDoKeepsTheFirstAnswer(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var runs atomic.Int32
	_, err := Do(t.Context(), b.Keeper, request("k"), func() (answer, error) {
		b.clock.Advance(claimLifetime)
		other, err := Do(t.Context(), b.Keeper, request("k"), once("fast", &runs))
		require.NoError(t, err)
		require.Equal(t, answer{"fast"}, other)
		return answer{"slow"}, nil
	})
	require.NoError(t, err)
	again, err := Do(t.Context(), b.Keeper, request("k"), once("", &runs))
	require.NoError(t, err)
	require.Equal(t, int32(1), runs.Load())
	require.Equal(t, answer{"fast"}, again)
}

func ptr[T any](v T) *T { return &v }

// An error of fn ends the claim at once, also if the caller is gone by then.
func TestDoGivesUpItsClaim(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	boom := errors.New("boom")
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Do(ctx, b.Keeper, request("k"), func() (answer, error) {
		cancel()
		return answer{}, boom
	})
	require.ErrorIs(t, err, boom)
	require.Zero(t, count(t, b.pool))
	var runs atomic.Int32
	_, err = Do(t.Context(), b.Keeper, request("k"), once("s", &runs))
	require.NoError(t, err)

	ctx, cancel = context.WithCancel(t.Context())
	_, err = Do(ctx, b.Keeper, request("gone"), func() (answer, error) {
		cancel()
		return answer{"s"}, nil
	})
	require.NoError(t, err, "what was done is kept")
	_, err = Do(t.Context(), b.Keeper, request("gone"), once("s", &runs))
	require.NoError(t, err)
	require.Equal(t, int32(1), runs.Load())
}

// A transaction that fails leaves nothing of fn and nothing of its key.
func TestDoTxRollsBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	boom := errors.New("boom")
	work := func(then error) func(tx postgres.Tx) (answer, error) {
		return func(tx postgres.Tx) (answer, error) {
			_, err := tx.Exec(t.Context(), `
				INSERT INTO stripe_events (id, type, handled_at, received_at, next_attempt_at)
				VALUES ('evt_1', 'a', '2026-03-21', '2026-03-21', '2026-03-21') ON CONFLICT DO NOTHING`)
			return answer{"s"}, errors.Join(err, then)
		}
	}
	events := func() (n int) {
		require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM stripe_events`).Scan(&n))
		return n
	}
	for _, key := range []string{"k", ""} {
		_, err := DoTx(t.Context(), b.Keeper, request(key), work(boom))
		require.ErrorIs(t, err, boom)
		require.Zero(t, count(t, b.pool))
		require.Zero(t, events())
	}
	t.Run("also where the answer can't be kept", func(t *testing.T) {
		broken := New(b.pool, b.clock.Now, bytes.NewReader(nil), pepper) // no randomness, no seal
		_, err := DoTx(t.Context(), broken, request("k"), work(nil))
		require.ErrorContains(t, err, "randomness")
		_, err = DoTx(t.Context(), b.Keeper, request("k"), func(tx postgres.Tx) (func(), error) {
			_, err := work(nil)(tx)
			return func() {}, err
		})
		var unsupported *json.UnsupportedTypeError
		require.ErrorAs(t, err, &unsupported)
		require.Zero(t, count(t, b.pool))
		require.Zero(t, events())
	})
	got, err := DoTx(t.Context(), b.Keeper, request("k"), work(nil))
	require.NoError(t, err)
	require.Equal(t, answer{"s"}, got)
	require.Equal(t, 1, count(t, b.pool))
	require.Equal(t, 1, events())
	got, err = DoTx(t.Context(), b.Keeper, request("k"), func(postgres.Tx) (answer, error) {
		require.Fail(t, "it is not run again")
		return answer{}, nil
	})
	require.NoError(t, err)
	require.Equal(t, answer{"s"}, got)
}

func TestForget(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var runs atomic.Int32
	for _, key := range []string{"old", "young"} {
		_, err := Do(t.Context(), b.Keeper, request(key), once(key, &runs))
		require.NoError(t, err)
		b.clock.Advance(time.Hour)
	}
	b.clock.Advance(Lifetime - 2*time.Hour - time.Second)
	require.NoError(t, b.Forget(t.Context()))
	require.Equal(t, 2, count(t, b.pool), "not a second early")
	b.clock.Advance(time.Second)
	require.NoError(t, b.Forget(t.Context()))
	require.Equal(t, 1, count(t, b.pool))
	got, err := Do(t.Context(), b.Keeper, request("young"), once("again", &runs))
	require.NoError(t, err)
	require.Equal(t, answer{"young"}, got)
	got, err = Do(t.Context(), b.Keeper, request("old"), once("again", &runs))
	require.NoError(t, err)
	require.Equal(t, answer{"again"}, got)
}

// Without an Idempotency-Key nothing is kept.
func TestWithoutAKey(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var runs atomic.Int32
	for range 2 {
		_, err := Do(t.Context(), b.Keeper, request(""), once("s", &runs))
		require.NoError(t, err)
		_, err = DoTx(t.Context(), b.Keeper, request(""), func(postgres.Tx) (answer, error) { return once("s", &runs)() })
		require.NoError(t, err)
	}
	require.Equal(t, int32(4), runs.Load())
	require.Zero(t, count(t, b.pool))
}
