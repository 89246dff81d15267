package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// A story is what happens to an account at Stripe, in chapters. Each leads to webhooks, which may arrive in any order,
// before or after what happens next, or never.
type story struct {
	name     string
	before   func(w *world, c customer) // known to the end when the first chapter begins
	chapters []chapter
	tellings int    // how many ways there are to tell it
	share    int    // of which every so-many-th is told by make test; 0 is all
	longest  int    // the same for make test-long
	tier     string // that it ends in
	credits  credits
	// blurred reports that it depends on the telling whether the month's credits are given at once or in two parts.
	blurred bool
	// timed reports that what was lost is found at the same time; else it is found a minute later.
	timed bool
}

// chapter is something that happens, and the webhooks that Stripe sends of it, but for those that Keymeter does not ask for.
type chapter struct {
	after    time.Duration // the time that passes before
	checked  bool          // everybody has just been read anew, so that it is for the events to tell what happens
	uses     int64         // credits, before it happens
	happens  func(w *world, c customer)
	webhooks []string
}

// The webhooks of a paid checkout are those that https://github.com/pay-rails/pay/issues/282 has from Stripe, in two orders.
var (
	paidCheckout = []string{
		"customer.subscription.created", "invoice.created", "invoice.paid", "customer.subscription.updated",
		"checkout.session.completed",
	}
	planChange = []string{"invoice.created", "customer.subscription.updated", "invoice.paid"}
)

var stories = []story{
	{
		name: "checkout", tellings: 326, share: 3, tier: "starter", credits: credits{0, 50_000, 50_000},
		chapters: []chapter{{uses: 37, happens: checksOut("starter"), webhooks: paidCheckout}},
	},
	{
		name: "upgrade", tellings: 16, tier: "pro", credits: credits{1234, 151_613, 150_379},
		before:   subscribed("starter"),
		chapters: []chapter{{after: 10 * day, checked: true, uses: 1234, happens: checksOut("pro"), webhooks: planChange}},
	},
	{
		name: "downgrade", tellings: 185, tier: "starter", credits: credits{77, 250_000 - 1234, 250_000 - 1234 - 77},
		before: subscribed("pro"),
		chapters: []chapter{
			{after: 10 * day, checked: true, uses: 1234, happens: checksOut("starter"), webhooks: planChange[1:2]},
			// The advance is that of the plan that is known when the month's first credits are used: here nobody knows better yet.
			{after: 21 * day, uses: 77, happens: nothingHappens, webhooks: planChange[:2]},
			{after: 61 * time.Minute, happens: nothingHappens, webhooks: planChange[2:]},
		},
	},
	{
		name: "downgrade at once", tellings: 16, tier: "starter", credits: credits{1234, 200_000, 198_766},
		before:   subscribed("pro"),
		chapters: []chapter{{after: 10 * day, checked: true, uses: 1234, happens: isMovedTo("starter"), webhooks: planChange}},
	},
	{
		name: "checkout and upgrade", tellings: 246_521, share: 4999, longest: 41, blurred: true, timed: true, tier: "pro",
		credits: credits{0, 200_000, 200_000},
		chapters: []chapter{
			{happens: checksOut("starter"), webhooks: paidCheckout},
			{happens: checksOut("pro"), webhooks: planChange},
		},
	},
	{
		name: "first payment that takes its time", tellings: 107, share: 2, tier: "pro", credits: credits{0, 200_000, 200_000},
		chapters: []chapter{
			{happens: subscribesUnpaid("pro"), webhooks: paidCheckout[:2]},
			{after: 5 * time.Minute, happens: paysInvoice, webhooks: paidCheckout[2:4]},
		},
	},
	{
		name: "renewal", tellings: 30, tier: "pro", credits: credits{77, 400_000 - 1234, 400_000 - 1234 - 77},
		before: subscribed("pro"),
		chapters: []chapter{
			{uses: 1234, after: time.Hour, happens: nothingHappens},
			{after: 31*day - time.Hour, happens: nothingHappens, webhooks: []string{"invoice.created", "customer.subscription.updated"}},
			{after: 61 * time.Minute, uses: 77, happens: nothingHappens, webhooks: []string{"invoice.paid"}},
		},
	},
	{
		name: "cancellation", tellings: 7, tier: "free", credits: credits{0, 2500, 2500},
		before: subscribed("pro"),
		chapters: []chapter{
			{uses: 1234, happens: cancels(true), webhooks: []string{"customer.subscription.updated"}},
			{after: day, happens: cancels(false), webhooks: []string{"customer.subscription.deleted"}},
		},
	},
}

func nothingHappens(*world, customer) {}

// checksOut buys a plan, or changes to it.
func checksOut(tier string) func(*world, customer) {
	return func(w *world, c customer) {
		var s session
		w.checkout(c, tier).want(http.StatusOK, &s)
		if strings.HasPrefix(s.SessionID, "cs_") {
			require.NoError(w.t, w.sim.CompleteCheckout(s.SessionID))
			return
		}
		w.press(s.URL + "/confirm")
	}
}

// isMovedTo changes the plan in the Dashboard.
func isMovedTo(tier string) func(*world, customer) {
	return func(w *world, c customer) { w.moveTo(c, tier) }
}

func subscribed(tier string) func(*world, customer) { return checksOut(tier) }

// subscribesUnpaid begins a subscription whose payment the customer's bank wants confirmed first.
func subscribesUnpaid(tier string) func(*world, customer) {
	return func(w *world, c customer) {
		w.subscribeAtStripe(w.customerID(c), "keymeter_"+tier+"_monthly", "payment_behavior", "default_incomplete")
	}
}

func paysInvoice(w *world, c customer) {
	w.atStripe("POST", "/v1/invoices/"+w.latestInvoice(*w.account(c).StripeCustomerID)+"/pay", url.Values{})
}

func cancels(atPeriodEnd bool) func(*world, customer) {
	return func(w *world, c customer) {
		id := w.subscriptionsAtStripe(*w.account(c).StripeCustomerID)[0]
		require.NoError(w.t, w.sim.CancelSubscription(id, atPeriodEnd))
	}
}

// telling is which of a story's webhooks arrive, and in which order. Each is a letter, a for the first of the story; a stroke
// is where the next chapter begins. What is not in it is lost.
type telling string

func letter(webhook int) string { return string(rune('a' + webhook)) }

// sends returns the webhooks of a chapter.
func (s story) sends(chapter int) (webhooks string) {
	first := 0
	for _, ch := range s.chapters[:chapter] {
		first += len(ch.webhooks)
	}
	for i := range s.chapters[chapter].webhooks {
		webhooks += letter(first + i)
	}
	return webhooks
}

// all calls yield with every telling of a story.
func (s story) all(yield func(telling) bool) {
	s.goOn("", 0, s.sends(0), yield)
}

// goOn goes on from what has been told, in every way: the next chapter begins, or one of the webhooks that are under way
// arrives before. It returns false once yield has.
func (s story) goOn(told telling, chapter int, underWay string, yield func(telling) bool) bool {
	if last := len(s.chapters) - 1; chapter == last {
		if !yield(told) {
			return false
		}
	} else if !s.goOn(told+"|", chapter+1, underWay+s.sends(chapter+1), yield) {
		return false
	}
	for i := range underWay {
		if !s.goOn(told+telling(underWay[i]), chapter, underWay[:i]+underWay[i+1:], yield) {
			return false
		}
	}
	return true
}

// lost returns how many webhooks do not arrive.
func (s story) lost(t telling) (n int) {
	for i := range s.chapters {
		n += len(s.chapters[i].webhooks)
	}
	return n - len(strings.ReplaceAll(string(t), "|", ""))
}

// audience is a world in which a story is told in many ways at once, each to an account of its own.
type audience struct {
	w         *world
	story     story
	listeners []*listener
	assigned  int // events of the simulator whose listener is known
}

type listener struct {
	customer
	customerID string
	telling    telling
	ids        map[string]string // of events, by their letter
}

func (s story) tell(t *testing.T, tellings []telling) {
	a := &audience{w: newWorld(t, withStripe), story: s}
	a.w.reconcile()
	a.w.sim.HoldDeliveries()
	for _, told := range tellings {
		l := &listener{customer: a.w.newCustomer(), telling: told, ids: map[string]string{}}
		if s.before != nil {
			s.before(a.w, l.customer)
		}
		a.listeners = append(a.listeners, l)
	}
	a.w.reconcile()
	a.assigned = len(a.w.sim.Events())
	for i := range s.chapters {
		a.chapter(i)
	}
	a.end()
}

// chapter has something happen to everybody, and then brings everybody its webhooks, one at a time: what follows from one is
// done before the next arrives.
func (a *audience) chapter(i int) {
	ch := a.story.chapters[i]
	if ch.uses > 0 && ch.after == 0 {
		a.use(i, ch.uses)
	}
	a.w.at(a.w.clock.Now().Add(ch.after))
	if ch.checked {
		a.w.reconcile()
	}
	if ch.uses > 0 && ch.after > 0 {
		a.use(i, ch.uses)
	}
	for _, l := range a.listeners {
		ch.happens(a.w, l.customer)
		if l.customerID == "" {
			l.customerID = *a.w.account(l.customer).StripeCustomerID
		}
	}
	a.assign(i)
	for round, more := 0, true; more; round++ {
		more = a.arrive(i, round)
		a.w.workedOff()
	}
}

func (a *audience) use(chapter int, credits int64) {
	for _, l := range a.listeners {
		a.w.spend(l.customer, fmt.Sprint(l.ID, chapter), credits).want(http.StatusOK)
	}
}

// assign finds out which events are whose.
func (a *audience) assign(chapter int) {
	listeners := map[string]*listener{}
	for _, l := range a.listeners {
		listeners[l.customerID] = l
	}
	events, letters := a.w.sim.Events(), a.story.sends(chapter)
	for _, e := range events[a.assigned:] {
		var about struct {
			Data struct{ Object struct{ Customer string } }
		}
		require.NoError(a.w.t, json.Unmarshal(e.Payload, &about))
		l, i := listeners[about.Data.Object.Customer], slices.Index(a.story.chapters[chapter].webhooks, e.Type)
		if l == nil || i < 0 {
			continue
		}
		require.Empty(a.w.t, l.ids[letters[i:i+1]], "%s is sent twice", e.Type)
		l.ids[letters[i:i+1]] = e.ID
	}
	a.assigned = len(events)
	for _, l := range a.listeners {
		for i, kind := range a.story.chapters[chapter].webhooks {
			require.NotEmpty(a.w.t, l.ids[letters[i:i+1]], "%s is not sent", kind)
		}
	}
}

// arrive delivers to everybody the webhook whose turn it is. It returns false if there was none.
func (a *audience) arrive(chapter, round int) (any bool) {
	group, ctx := errgroup.WithContext(context.Background())
	group.SetLimit(4)
	for _, l := range a.listeners {
		webhooks := strings.Split(string(l.telling), "|")[chapter]
		if round >= len(webhooks) {
			continue
		}
		any = true
		group.Go(func() error { return a.w.sim.Deliver(ctx, l.ids[webhooks[round:round+1]]) })
	}
	require.NoError(a.w.t, group.Wait())
	return any
}

// end finds what was lost, and compares.
func (a *audience) end() {
	w, lost := a.w, 0
	for _, l := range a.listeners {
		lost += a.story.lost(l.telling)
	}
	if !a.story.timed {
		w.at(w.clock.Now().Add(time.Minute))
	}
	require.Equal(w.t, int64(lost), w.reconcile().Found)
	require.Zero(w.t, w.reconcile().Found)
	first := a.listeners[0]
	got, want := w.subscription(first.customer), a.state(first)
	require.Equal(w.t, a.story.tier, got.Tier)
	require.Equal(w.t, a.story.credits, got.Credits)
	for _, l := range a.listeners {
		require.Equal(w.t, want, a.state(l), "%q of %+v, compared with %q", l.telling, a.story.chapters, first.telling)
	}
	found, err := w.app.VerifyLedger(context.Background())
	require.NoError(w.t, err)
	require.Empty(w.t, found)
}

// state is what has become of an account: what its owner sees, what the database has of it but for ids and for when it was
// written, and which events were worked off.
func (a *audience) state(l *listener) (lines []string) {
	w := a.w
	for _, path := range []string{"/v1/billing/subscription", "/v1/usage"} {
		body := string(w.call("GET", path, nil, l.auth()).want(http.StatusOK).body)
		lines = append(lines, strings.ReplaceAll(body, l.customerID, "cus"))
	}
	for _, query := range a.queries() {
		lines = append(lines, w.lines(query, l.ID)...)
	}
	if a.story.blurred {
		return lines
	}
	var p ledgerPage
	w.call("GET", "/v1/accounts/"+l.ID+"/ledger?limit=100", nil, bearer(theOperatorToken)).want(http.StatusOK, &p)
	for _, e := range p.Data {
		e.ID = ""
		entry, err := json.Marshal(e)
		require.NoError(w.t, err)
		lines = append(lines, string(entry))
	}
	slices.Sort(lines) // the ledger's order is that of the times
	return lines
}

const (
	grantsQuery = `SELECT concat_ws(' ', 'grant', period, kind, amount, reason, expires_at)
		FROM credit_grants WHERE account_id = $1 ORDER BY 1`
	grantsTogetherQuery = `SELECT concat_ws(' ', 'grants', kind, sum(amount), expires_at)
		FROM credit_grants WHERE account_id = $1 GROUP BY kind, expires_at ORDER BY 1`
	eventsQuery = `SELECT concat_ws(' ', 'event', type, last_error) FROM stripe_events
		WHERE account_id = $1 AND handled_at IS NOT NULL ORDER BY 1`
)

func (a *audience) queries() []string {
	queries := []string{eventsQuery, grantsQuery}
	if a.story.blurred {
		queries[1] = grantsTogetherQuery
	}
	for _, q := range stateQueries {
		if !strings.Contains(q, "'grant'") { // which has when they were made
			queries = append(queries, q)
		}
	}
	return queries
}

// lines returns the rows of a query of one column.
func (w *world) lines(query string, args ...any) (lines []string) {
	w.t.Helper()
	rows, err := w.pool.Query(context.Background(), query, args...)
	require.NoError(w.t, err)
	defer rows.Close()
	for rows.Next() {
		var line string
		require.NoError(w.t, rows.Scan(&line))
		lines = append(lines, line)
	}
	require.NoError(w.t, rows.Err())
	return lines
}

// audienceSize is how many a simulator is fast enough for.
const audienceSize = 350

// Whatever of a story's webhooks arrives, in whatever order, before or after what happens next: once the rest is found, the
// account is as it would have been. make test-long tells all, but for the longest story.
func TestEveryOrderOfWebhooks(t *testing.T) {
	t.Parallel()
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			every := max(s.share, 1)
			if os.Getenv("KEYMETER_TEST_LONG") != "" {
				every = max(s.longest, 1)
			}
			seen, batch, n := map[telling]bool{}, []telling{}, 0
			for told := range s.all {
				seen[told] = true
				if n++; (n-1)%every != 0 {
					continue
				}
				if batch = append(batch, told); len(batch) == audienceSize {
					t.Run(fmt.Sprint(n), func(t *testing.T) { s.tell(t, batch) })
					batch = batch[:0]
				}
			}
			require.Equal(t, s.tellings, n)
			require.Len(t, seen, n, "each once")
			if len(batch) > 0 {
				s.tell(t, batch)
			}
		})
	}
}

// What Stripe sends besides is acknowledged and leaves no trace, so that its place among the others does not matter.
func TestOtherWebhooksLeaveNoTrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	w.reconcile()
	w.sim.HoldDeliveries()
	c := w.newCustomer()
	checksOut("starter")(w, c)
	checksOut("pro")(w, c)
	rows := func() []string { return w.lines(`SELECT b::text FROM billing_accounts b`) }
	before, others := rows(), map[string]bool{}
	for _, e := range w.sim.Events() {
		if slices.Contains(paidCheckout, e.Type) {
			continue
		}
		others[e.Type] = true
		require.NoError(t, w.sim.Deliver(t.Context(), e.ID))
	}
	require.Len(t, others, 8, "%v", others)
	require.Zero(t, w.count("stripe_events"))
	require.Equal(t, before, rows())
	require.Equal(t, "free", w.subscription(c).Tier)
	require.Equal(t, int64(len(paidCheckout)+len(planChange)), w.reconcile().Found)
	require.Equal(t, "pro", w.subscription(c).Tier)
}
