package keys

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/accounts"
	"github.com/keymeter/keymeter/internal/ids"
	"github.com/keymeter/keymeter/internal/postgres"
	"github.com/keymeter/keymeter/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var (
	oldPepper = bytes.Repeat([]byte{1}, 32)
	newPepper = bytes.Repeat([]byte{2}, 32)
)

// bench is keys on a database, with an account.
type bench struct {
	pool      *pgxpool.Pool
	clock     *testkit.Clock
	accountID string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{pool: testkit.DB(t), clock: testkit.NewClock(time.Date(2026, 3, 21, 10, 30, 0, 0, time.UTC))}
	source := ids.NewSource(b.clock.Now, rand.Reader)
	require.NoError(t, postgres.InTx(t.Context(), b.pool, func(tx postgres.Tx) error {
		account, err := accounts.New(b.pool, source, b.clock.Now).CreateTx(t.Context(), tx, accounts.CreateParams{Name: "A"})
		b.accountID = account.ID
		return err
	}))
	return b
}

// keys returns a server's keys under the peppers.
func (b *bench) keys(t *testing.T, peppers map[int32][]byte) *Keys {
	t.Helper()
	p, err := NewPeppers(peppers)
	require.NoError(t, err)
	k, err := New(Config{
		Pool: b.pool, Hot: b.pool, IDs: ids.NewSource(b.clock.Now, rand.Reader), Now: b.clock.Now, Rand: rand.Reader,
		Format: newFormat(t, "plabs", "live"), Peppers: p, CacheSize: 100,
	})
	require.NoError(t, err)
	return k
}

func (b *bench) create(t *testing.T, k *Keys) Created {
	t.Helper()
	var created Created
	require.NoError(t, postgres.InTx(t.Context(), b.pool, func(tx postgres.Tx) error {
		var err error
		created, err = k.CreateTx(t.Context(), tx, b.accountID, CreateParams{Name: "A"})
		return err
	}))
	return created
}

// stored returns what the database has of a key.
func (b *bench) stored(t *testing.T, id string) (version int32, hash []byte) {
	t.Helper()
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT pepper_version, hash FROM api_keys WHERE id = $1`, id).
		Scan(&version, &hash))
	return version, hash
}

// A pepper is rotated by adding one. Keys of before go on, new ones are under the new one, and without the old one the
// old keys are void.
func TestPepperRotation(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	before := b.keys(t, map[int32][]byte{1: oldPepper})
	both := b.keys(t, map[int32][]byte{1: oldPepper, 2: newPepper})
	after := b.keys(t, map[int32][]byte{2: newPepper})

	old := b.create(t, before)
	version, hash := b.stored(t, old.ID)
	require.Equal(t, int32(1), version)
	require.Equal(t, hmacOf(oldPepper, old.Secret), hash)
	recent := b.create(t, both)
	version, hash = b.stored(t, recent.ID)
	require.Equal(t, int32(2), version)
	require.Equal(t, hmacOf(newPepper, recent.Secret), hash)

	for _, created := range []Created{old, recent} {
		identity, _, err := both.Authenticate(t.Context(), created.Secret.Reveal())
		require.NoError(t, err)
		require.Equal(t, Identity{KeyID: created.ID, AccountID: b.accountID}, identity)
	}
	_, _, err := after.Authenticate(t.Context(), recent.Secret.Reveal())
	require.NoError(t, err)
	_, _, err = after.Authenticate(t.Context(), old.Secret.Reveal())
	require.ErrorIs(t, err, ErrInvalid)
	_, _, err = before.Authenticate(t.Context(), recent.Secret.Reveal())
	require.ErrorIs(t, err, ErrInvalid)

	t.Run("a key that is rotated moves to the new pepper", func(t *testing.T) {
		var rotated Created
		require.NoError(t, postgres.InTx(t.Context(), b.pool, func(tx postgres.Tx) error {
			var err error
			rotated, _, err = both.RotateTx(t.Context(), tx, b.accountID, old.ID, 0)
			return err
		}))
		version, _ := b.stored(t, rotated.ID)
		require.Equal(t, int32(2), version)
		_, _, err := after.Authenticate(t.Context(), rotated.Secret.Reveal())
		require.NoError(t, err)
		_, _, err = both.Authenticate(t.Context(), old.Secret.Reveal())
		require.ErrorIs(t, err, ErrInvalid)
	})
	t.Run("another pepper under the same version finds nothing", func(t *testing.T) {
		_, _, err := b.keys(t, map[int32][]byte{1: newPepper, 2: oldPepper}).Authenticate(t.Context(), recent.Secret.Reveal())
		require.NoError(t, err, "each version is tried, whatever its number")
		_, _, err = b.keys(t, map[int32][]byte{2: bytes.Repeat([]byte{3}, 32)}).Authenticate(t.Context(), recent.Secret.Reveal())
		require.ErrorIs(t, err, ErrInvalid)
	})
}

func hmacOf(pepper []byte, s Secret) []byte {
	mac := hmac.New(sha256.New, pepper)
	mac.Write([]byte(s.Reveal()))
	return mac.Sum(nil)
}

// A use that could not be written is written the next time, unless a later one was noted meanwhile.
func TestFlushLastUsed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	k := b.keys(t, map[int32][]byte{1: oldPepper})
	first, second := b.create(t, k), b.create(t, k)
	usedAt := func(id string) (at *time.Time) {
		require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT last_used_at FROM api_keys WHERE id = $1`, id).Scan(&at))
		return at
	}
	start := b.clock.Now()
	for _, c := range []Created{first, second} {
		_, _, err := k.Authenticate(t.Context(), c.Secret.Reveal())
		require.NoError(t, err)
	}
	require.Nil(t, usedAt(first.ID), "many uses become one write, later")

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, k.FlushLastUsed(gone))
	b.clock.Advance(time.Hour)
	k.NoteUsed(first.ID, b.clock.Now())
	k.NoteUsed(second.ID, start.Add(-time.Hour)) // late news of an earlier use
	require.NoError(t, k.FlushLastUsed(t.Context()))
	require.True(t, usedAt(first.ID).Equal(start.Add(time.Hour)))
	require.True(t, usedAt(second.ID).Equal(start))

	// Another replica, whose note is older, does not turn it back.
	other := b.keys(t, map[int32][]byte{1: oldPepper})
	other.NoteUsed(first.ID, start)
	require.NoError(t, other.FlushLastUsed(t.Context()))
	require.True(t, usedAt(first.ID).Equal(start.Add(time.Hour)))
	require.NoError(t, k.FlushLastUsed(gone), "nothing to write needs no database")
}
