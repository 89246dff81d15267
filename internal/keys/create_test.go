package keys

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/fault"
)

// Keys that are created at the same time share a query, and each call gets its own outcome.
func TestCreate_together(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	k := b.keys(t, map[int32][]byte{1: oldPepper})
	const calls = 200
	created := make([]Created, calls)
	errs := make([]error, calls)
	var group sync.WaitGroup
	for i := range calls {
		group.Go(func() {
			account, p := b.accountID, CreateParams{Name: fmt.Sprint(i)}
			switch i % 4 {
			case 1:
				account = "acct_none"
			case 2:
				p.ExpiresInDays = 30
			case 3:
				p.Scopes = []Scope{"tts"}
			}
			created[i], errs[i] = k.Create(t.Context(), account, p)
		})
	}
	group.Wait()
	for i, err := range errs {
		if i%4 == 1 {
			var refusal *fault.Error
			require.ErrorAs(t, err, &refusal)
			require.Equal(t, "account_not_found", refusal.Code)
			continue
		}
		require.NoError(t, err)
		key, err := k.Get(t.Context(), b.accountID, created[i].ID)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i), key.Name)
		require.Equal(t, i%4 == 2, key.ExpiresAt != nil)
		require.Equal(t, i%4 == 3, key.Scopes != nil)
		identity, _, err := k.Authenticate(t.Context(), created[i].Secret.Reveal())
		require.NoError(t, err)
		require.Equal(t, created[i].ID, identity.KeyID)
	}

	_, err := k.Create(t.Context(), "acct_none", CreateParams{Name: "a", Controls: Controls{Scopes: []Scope{"tts"}}})
	require.ErrorIs(t, err, errNoAccount)
}

// What the database refuses of one key does not keep the others from being created.
func TestCreate_refusedByTheDatabase(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	k := b.keys(t, map[int32][]byte{1: oldPepper})
	var rows []newRow
	for _, name := range []string{"a", "b\x00", "c"} {
		row, _, err := k.mint(b.accountID, CreateParams{Name: name})
		require.NoError(t, err)
		rows = append(rows, row)
	}
	refusals, err := k.insertAll(t.Context(), rows)
	require.NoError(t, err)
	require.NoError(t, refusals[0])
	require.Error(t, refusals[1])
	require.NoError(t, refusals[2])
}
