package httpapi_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// lives is how many lives of a subscription are told in an order of their own. Their number bounds how long the test takes.
const lives = 16

// Whatever of the events of a checkout and a change of plan arrives, in whatever order, doubled, before or after what
// follows it: once the rest is found, the account is as it would have been.
func TestWebhooksInAnyOrderAndLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	w.reconcile()
	w.sim.HoldDeliveries()
	for seed := range uint64(lives) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := w.newCustomer()
		var s, change session
		first := w.eventsOf(func() {
			w.checkout(c, "starter").want(200, &s)
			require.NoError(t, w.sim.CompleteCheckout(s.SessionID))
		})
		early := some(r, first, seed)
		require.NoError(t, w.sim.Deliver(t.Context(), early...))
		w.workedOff()
		second := w.eventsOf(func() {
			w.checkout(c, "scale").want(200, &change)
			w.press(change.URL + "/confirm")
		})
		late := some(r, slices.Concat(first, second, first), seed)
		require.NoError(t, w.sim.Deliver(t.Context(), late...))
		w.workedOff()
		w.reconcile()

		got := w.subscription(c)
		require.Equal(t, "scale", got.Tier, "seed %d: %v, then %v", seed, early, late)
		require.Equal(t, credits{0, 1000000, 1000000}, got.Credits, "seed %d: %v, then %v", seed, early, late)
		require.Equal(t, 1, w.count("billing_accounts WHERE account_id = $1 AND subscription_status = 'active'", c.ID))
		require.Zero(t, w.count("credit_grants WHERE account_id = $1 AND kind = 'bridge'", c.ID), "seed %d", seed)
	}
}

// eventsOf returns the ids of the events that something leads to.
func (w *world) eventsOf(what func()) (ids []string) {
	before := len(w.sim.Events())
	what()
	for _, e := range w.sim.Events()[before:] {
		ids = append(ids, e.ID)
	}
	return ids
}

// some returns some of the ids in any order: none for the first seed, all for the second.
func some(r *rand.Rand, ids []string, seed uint64) []string {
	ids = slices.Clone(ids)
	r.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	switch seed {
	case 0:
		return nil
	case 1:
		return ids
	default:
		return ids[:r.IntN(len(ids)+1)]
	}
}
