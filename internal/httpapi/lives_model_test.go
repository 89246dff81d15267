package httpapi_test

import (
	"context"
	"encoding/json"
	"math/big"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
)

// What is sold, and the rules, once more: the model shares nothing with the server.
var (
	modelCredits = map[string]int64{"starter": 50_000, "pro": 200_000, "scale": 1_000_000}
	modelCents   = map[string]int64{"starter": 2900, "pro": 9900, "scale": 49900}
)

const modelGrace = 7 * day

// month is one that is paid for.
type month struct {
	subscription string
	start        int64
}

// paidMonth is what a month gives: the plan's credits when it is first seen to be paid, and for each better plan that
// follows the part of the difference that is left of the month, rounded up.
type paidMonth struct{ first, included, more int64 }

// total is what the month gives in all, advance included. Of an advance nothing is taken back, where the plan has become so
// much smaller before the payment that it gives less.
func (p paidMonth) total(advance int64) int64 { return max(p.first, advance) + p.more }

// modelLife is what the model knows of a life.
type modelLife struct {
	spent, bought int64
	months        map[month]*paidMonth
	pastDue       map[string]time.Time // subscriptions, since when they were seen to be so
}

func newModelLife() *modelLife {
	return &modelLife{months: map[month]*paidMonth{}, pastDue: map[string]time.Time{}}
}

// observed is a subscription as Stripe has it.
type observed struct {
	stripeSubscription
	Start int64           `json:"current_period_start"`
	End   int64           `json:"current_period_end"`
	Pause json.RawMessage `json:"pause_collection"`
	Last  struct {
		Created       int64
		BillingReason string `json:"billing_reason"`
	} `json:"latest_invoice"`
	Items struct {
		Data []struct {
			ID    string
			Price struct {
				LookupKey string `json:"lookup_key"`
			}
		}
	}
}

func tierOf(lookupKey string) string {
	return strings.TrimSuffix(strings.TrimPrefix(lookupKey, "keymeter_"), "_monthly")
}

func (o observed) tier() string { return tierOf(o.Items.Data[0].Price.LookupKey) }

func (o observed) paused() bool { return len(o.Pause) > 0 && string(o.Pause) != "null" }

// observe tells the model what there is at Stripe, once the server has been told the same, and checks the tier.
func (l *lifetimes) observe(t tester, one *life) {
	t.Helper()
	now, tier := l.w.clock.Now(), "free"
	for _, o := range list[observed](t, l, "/v1/subscriptions?expand[]=data.latest_invoice&status=all&limit=100&customer="+one.customerID) {
		if o.live() && o.Status != "incomplete" {
			tier = one.model.observe(o, l.unpaid(t, one, o.ID), now)
		}
	}
	var got string
	require.NoError(t, l.w.pool.QueryRow(context.Background(), `SELECT tier FROM accounts WHERE id = $1`, one.id).Scan(&got))
	require.Equal(t, tier, got, "the tier of %s at %s", one.id, now)
}

// unpaid reports whether an invoice of the subscription waits to be paid.
func (l *lifetimes) unpaid(t tester, one *life, subscriptionID string) bool {
	t.Helper()
	for _, inv := range l.invoices(t, one) {
		waits := inv.Status == "draft" || inv.Status == "open"
		if inv.Subscription != nil && *inv.Subscription == subscriptionID && waits && inv.BillingReason != "manual" {
			return true
		}
	}
	return false
}

// observe returns the tier that a subscription gives now.
func (m *modelLife) observe(o observed, unpaid bool, now time.Time) (tier string) {
	if o.Status != "past_due" {
		delete(m.pastDue, o.ID)
	}
	switch {
	case o.paused():
		return "free"
	case o.Status == "active" && !unpaid:
		m.paid(o, now)
		return o.tier()
	case o.Status == "active":
		return o.tier()
	case o.Status == "past_due":
		if _, known := m.pastDue[o.ID]; !known {
			m.pastDue[o.ID] = now
		}
		if now.Before(m.pastDue[o.ID].Add(modelGrace)) {
			return o.tier()
		}
	}
	return "free"
}

func (m *modelLife) paid(o observed, now time.Time) {
	key, credits := month{o.ID, o.Start}, modelCredits[o.tier()]
	p := m.months[key]
	if p == nil {
		m.months[key] = &paidMonth{first: credits, included: credits}
		return
	}
	if more := credits - p.included; more > 0 {
		start, end := time.Unix(o.Start, 0), time.Unix(o.End, 0)
		if changed := time.Unix(o.Last.Created, 0); o.Last.BillingReason == "subscription_update" && changed.After(start) {
			now = changed
		}
		p.more += roundedUp(more, end.Sub(now), end.Sub(start))
		p.included = credits
	}
}

func roundedUp(credits int64, left, whole time.Duration) int64 {
	share := new(big.Rat).SetFrac(new(big.Int).Mul(big.NewInt(credits), big.NewInt(int64(left))), big.NewInt(int64(whole)))
	up := new(big.Int).Add(share.Num(), new(big.Int).Sub(share.Denom(), big.NewInt(1)))
	return up.Quo(up, share.Denom()).Int64()
}

// checkCredits checks that what was spent and bought is in the ledger, and that each month gave what the model says: what
// was used of its advance is part of it.
func (l *lifetimes) checkCredits(t tester, one *life) {
	t.Helper()
	ctx := context.Background()
	var spent, bought int64
	require.NoError(t, l.w.pool.QueryRow(ctx, `SELECT
		(SELECT coalesce(sum(tts + stt + llm + rag), 0)::bigint FROM balances WHERE account_id = $1),
		(SELECT coalesce(sum(amount), 0)::bigint FROM credit_grants WHERE account_id = $1 AND kind = 'topup'
			AND source NOT LIKE 'returned:%')`, one.id).
		Scan(&spent, &bought))
	require.Equal(t, one.model.spent, spent, "used of %s", one.id)
	require.Equal(t, one.model.bought, bought, "top-ups of %s", one.id)
	given := l.given(t, one)
	for key, p := range one.model.months {
		got := given[key]
		require.Equal(t, p.total(got.advance), got.month+got.advance, "%s in the month of %s: %+v", one.id, time.Unix(key.start, 0).UTC(), got)
		delete(given, key)
		l.did["months that gave their credits"]++
		if p.more > 0 {
			l.did["months with a better plan"]++
		}
	}
	for key, got := range given {
		require.Zero(t, got.month, "%s in the month of %s, which is not paid", one.id, time.Unix(key.start, 0).UTC())
	}
}

// givenMonth is what the ledger has of a month: what it gave, and what was used of the advance on it.
type givenMonth struct{ month, advance int64 }

func (l *lifetimes) given(t tester, one *life) map[month]givenMonth {
	t.Helper()
	found := map[month]givenMonth{}
	rows, err := l.w.pool.Query(context.Background(), `WITH g AS (
			SELECT kind, regexp_match(source, 'monthly:(sub_\w+):(\d+)') AS of, amount
				- CASE kind WHEN 'bridge' THEN (SELECT coalesce(sum(l.amount), 0) FROM credit_losses l WHERE l.grant_id = g.id) ELSE 0 END
				AS amount
			FROM credit_grants g WHERE account_id = $1)
		SELECT of[1], of[2]::bigint, coalesce(sum(amount) FILTER (WHERE kind = 'monthly'), 0)::bigint,
			coalesce(sum(amount) FILTER (WHERE kind = 'bridge'), 0)::bigint
		FROM g WHERE of IS NOT NULL GROUP BY 1, 2`, one.id)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var key month
		var got givenMonth
		require.NoError(t, rows.Scan(&key.subscription, &key.start, &got.month, &got.advance))
		found[key] = got
	}
	require.NoError(t, rows.Err())
	return found
}

// checkInvoices checks that every line of every invoice is a month at its plan's price, the part of one that a change of
// plan leaves, or overage; that no month is charged twice; and that the lines are the total.
func (l *lifetimes) checkInvoices(t tester, one *life) {
	t.Helper()
	charged, months := map[month]bool{}, l.monthsByEnd(t, one)
	for _, inv := range l.invoices(t, one) {
		var sum int64
		for _, line := range inv.Lines.Data {
			sum += line.Amount
			price := modelCents[tierOf(line.Price.LookupKey)]
			switch {
			case line.Metadata["keymeter_key"] != "": // checkOverage has its amount
			case line.Proration:
				l.did["prorations"]++
				l.checkProration(t, line, months[month{line.Subscription, line.Period.End}])
			default:
				require.Equal(t, price, line.Amount)
				key := month{line.Subscription, line.Period.Start}
				require.False(t, charged[key], "%v is charged twice", key)
				charged[key] = true
			}
		}
		require.Equal(t, sum, inv.Total)
	}
}

// monthsByEnd returns how long the months are that were charged, by their end.
func (l *lifetimes) monthsByEnd(t tester, one *life) map[month]int64 {
	t.Helper()
	whole := map[month]int64{}
	for _, inv := range l.invoices(t, one) {
		for _, line := range inv.Lines.Data {
			if line.Metadata["keymeter_key"] == "" && !line.Proration {
				whole[month{line.Subscription, line.Period.End}] = line.Period.End - line.Period.Start
			}
		}
	}
	return whole
}

// checkProration checks what is charged or given back for the rest of a month, rounded to the cent.
func (l *lifetimes) checkProration(t tester, line invoiceLine, whole int64) {
	t.Helper()
	require.Positive(t, whole, "%+v is of no month", line)
	price := modelCents[tierOf(line.Price.LookupKey)]
	exact := big.NewRat(price*(line.Period.End-line.Period.Start), whole).FloatString(0)
	require.Equal(t, exact, strings.TrimPrefix(big.NewInt(line.Amount).String(), "-"), "%+v", line)
}
