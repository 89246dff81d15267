package credits

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/testkit"
)

// cappedCatalogue is one that an operator may well write: its starter and pro tiers have hard caps too.
func cappedCatalogue(t tester) *plans.Catalogue {
	t.Helper()
	catalogue, err := plans.Parse([]byte(`
tiers:
  - {tier: free, name: Free, monthlyPrice: "0", monthlyCredits: 100}
  - {tier: starter, name: Starter, monthlyPrice: "5", monthlyCredits: 1000, stripeLookupKey: starter}
  - {tier: pro, name: Pro, monthlyPrice: "10", monthlyCredits: 5000, stripeLookupKey: pro}
  - {tier: scale, name: Scale, monthlyPrice: "20", monthlyCredits: 10000, overageRate: "0.001", stripeLookupKey: scale}
prices:
  tts: {unit: 1000, providers: {kokoro: {input: 4}}}
  stt: {unit: 60, providers: {groq: {input: 2}}}
  llm: {unit: 1000, providers: {gpt-4.1: {input: 4, output: 16}}}
  rag: {unit: 1, providers: {default: {input: 2}}}
`))
	require.NoError(t, err)
	return catalogue
}

// oddCatalogue has what no other has: a capped plan that carries over, one with overage that does not, and a large bridge.
func oddCatalogue(t tester) *plans.Catalogue {
	t.Helper()
	catalogue, err := plans.Parse([]byte(`
bridge: {percent: 60, hours: 672}
tiers:
  - {tier: free, name: Free, monthlyPrice: "0", monthlyCredits: 100}
  - {tier: starter, name: Starter, monthlyPrice: "5", monthlyCredits: 1000, carryoverMonths: 2, stripeLookupKey: starter}
  - {tier: pro, name: Pro, monthlyPrice: "10", monthlyCredits: 5000, overageRate: "0.001", stripeLookupKey: pro}
  - {tier: scale, name: Scale, monthlyPrice: "20", monthlyCredits: 10000, overageRate: "0.001", carryoverMonths: 1, stripeLookupKey: scale}
prices:
  tts: {unit: 1000, providers: {kokoro: {input: 4}}}
  stt: {unit: 60, providers: {groq: {input: 2}}}
  llm: {unit: 1000, providers: {gpt-4.1: {input: 4, output: 16}}}
  rag: {unit: 1, providers: {default: {input: 2}}}
`))
	require.NoError(t, err)
	return catalogue
}

var noon = time.Date(2026, 3, 21, 12, 0, 0, 0, time.UTC)

// A change between plans that the schema's hard cap has to allow, whatever was used before.
func TestChangeToAHardCap(t *testing.T) {
	t.Parallel()
	cycle := &Cycle{Source: "sub_1", Anchor: noon, Start: noon}
	for _, c := range []struct {
		name     string
		from, to plans.Tier
		cycle    *Cycle
		used     int64
	}{
		{"by hand, from overage", plans.Scale, plans.Pro, nil, 20_000},
		{"by hand, from a higher cap", plans.Pro, plans.Starter, nil, 4000},
		{"by hand, to free", plans.Starter, plans.Free, nil, 900},
		{"by Stripe, from overage", plans.Scale, plans.Pro, cycle, 20_000},
		{"by Stripe, from a higher cap", plans.Pro, plans.Starter, cycle, 4000},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, testkit.DB(t), cappedCatalogue(t), noon)
			id := b.newAccount(t)
			require.NoError(t, b.changePlan(t.Context(), id, c.from, c.cycle))
			b.spend(t, id, "before", c.used)
			b.clock.Advance(time.Hour)
			require.NoError(t, b.changePlan(t.Context(), id, c.to, c.cycle))
			balance := b.current(t, id)
			require.Equal(t, c.to, balance.Tier)
			require.True(t, capped(balance))
			b.checkIdentities(t, id)
		})
	}
}

// A renewal under a lower plan, which is how a downgrade at the period's end arrives, grants what the lower plan
// includes: nobody has paid for more.
func TestRenewalUnderALowerPlan(t *testing.T) {
	t.Parallel()
	b := newBench(t, testkit.DB(t), defaultCatalogue(t), noon)
	id := b.newAccount(t)
	require.NoError(t, b.changePlan(t.Context(), id, plans.Pro, &Cycle{Source: "sub_1", Anchor: noon, Start: noon}))
	require.Equal(t, int64(200_000), b.current(t, id).Granted)

	renewal := monthLater(noon, 1)
	b.clock.Set(renewal.Add(5 * time.Second)) // nobody has asked for the balance since the period ended
	require.NoError(t, b.changePlan(t.Context(), id, plans.Starter, &Cycle{Source: "sub_1", Anchor: noon, Start: renewal}))
	balance := b.current(t, id)
	require.Equal(t, plans.Starter, balance.Tier)
	require.Equal(t, renewal, balance.StartsAt.UTC())
	require.Equal(t, int64(200_000+50_000), balance.Granted, "what is carried over, and the lower plan's")
}
