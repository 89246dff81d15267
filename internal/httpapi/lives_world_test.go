package httpapi_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keymeter/keymeter/internal/stripesim"
)

// tester is a test, or a try of rapid's.
type tester interface {
	require.TestingT
	Helper()
	Fatalf(format string, args ...any)
}

// try is a try of rapid's. What fails first is kept: it may have to do with the ids, which are others at the next try.
type try struct {
	*rapid.T
	lives *lifetimes
}

// Errorf fails the try.
func (t try) Errorf(format string, args ...any) {
	t.lives.failure = cmp.Or(t.lives.failure, fmt.Sprintf(format, args...))
	t.T.Errorf(format, args...)
}

// Fatalf fails the try and ends it.
func (t try) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	t.FailNow()
}

// lifetimes is a world in which lives are lived, and those that are at it.
type lifetimes struct {
	w          *world
	deliveries *deliveries
	pairs      [][2]*life
	lived      int
	did        map[string]int // what was done, by its outcome
	events     int
	failure    string // the first
}

// life is an account that somebody has.
type life struct {
	id, key, customerID string
	topUps              []string // payment intents
	disputes            []string
	model               *modelLife
}

func newLives(t *testing.T) *lifetimes {
	l := &lifetimes{w: newWorld(t, withStripe), deliveries: &deliveries{}, did: map[string]int{}}
	server := httptest.NewServer(l.deliveries)
	t.Cleanup(server.Close)
	l.w.sim.SetWebhook(server.URL, webhookSecret)
	l.w.reconcile()
	return l
}

// call asks the server without a network between.
func (l *lifetimes) call(method, path string, body any, token string) (status int, answer []byte) {
	var sent []byte
	if body != nil {
		sent, _ = json.Marshal(body)
	}
	req := httptest.NewRequest(method, path, bytes.NewReader(sent))
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res := httptest.NewRecorder()
	l.w.app.Handler().ServeHTTP(res, req)
	return res.Code, res.Body.Bytes()
}

// atStripe asks the simulator in the same way.
func (l *lifetimes) atStripe(method, path string, form url.Values) (status int, answer []byte) {
	req := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	req.Header.Set("Authorization", "Bearer "+stripeKey)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res := httptest.NewRecorder()
	l.w.stripeAnswers.Load().(http.HandlerFunc)(res, req)
	return res.Code, res.Body.Bytes()
}

// list is a list of the simulator's.
func list[T any](t tester, l *lifetimes, path string) []T {
	t.Helper()
	status, answer := l.atStripe("GET", path, nil)
	require.Equal(t, http.StatusOK, status, string(answer))
	var found struct {
		Data    []T
		HasMore bool `json:"has_more"`
	}
	require.NoError(t, json.Unmarshal(answer, &found))
	require.False(t, found.HasMore, "more than a page")
	return found.Data
}

// born makes an account, with a customer at Stripe.
func (l *lifetimes) born(t tester) *life {
	t.Helper()
	one := &life{model: newModelLife()}
	var a account
	status, answer := l.call("POST", "/v1/accounts", map[string]any{"name": "Acme"}, theOperatorToken)
	require.Equal(t, http.StatusCreated, status, string(answer))
	require.NoError(t, json.Unmarshal(answer, &a))
	one.id = a.ID
	var k createdKey
	status, answer = l.call("POST", "/v1/accounts/"+a.ID+"/keys", nil, theOperatorToken)
	require.Equal(t, http.StatusCreated, status, string(answer))
	require.NoError(t, json.Unmarshal(answer, &k))
	one.key = k.Key
	status, answer = l.call("POST", "/v1/billing/checkout", checkout("pro"), one.key)
	require.Equal(t, http.StatusOK, status, string(answer))
	require.NoError(t, l.w.pool.QueryRow(context.Background(),
		`SELECT customer_id FROM billing_accounts WHERE account_id = $1`, one.id).Scan(&one.customerID))
	return one
}

func (l *lifetimes) accountIDs() (ids []string) {
	for _, p := range l.pairs {
		ids = append(ids, p[0].id, p[1].id)
	}
	return ids
}

func (l *lifetimes) spend(t tester, one *life, credits int) {
	t.Helper()
	if credits == 0 {
		return
	}
	l.events++
	status, answer := l.call("POST", "/v1/usage/events", event{
		"id": fmt.Sprint("e", l.events), "accountId": one.id, "category": "rag", "credits": credits,
	}, theServiceToken)
	if status != http.StatusOK && status != http.StatusPaymentRequired {
		t.Fatalf("a spend was answered %d: %s", status, answer)
	}
	if status == http.StatusOK {
		one.model.spent += int64(credits)
	}
	l.did[fmt.Sprint("spends ", status)]++
}

// do does a deed. What the account is in no state for has no effect.
func (l *lifetimes) do(t tester, one *life, a act) {
	t.Helper()
	outcome := l.doing(t, one, a)
	l.did[string(a.Do)+": "+outcome]++
}

func (l *lifetimes) doing(t tester, one *life, a act) (outcome string) {
	switch a.Do {
	case subscribes:
		return l.subscribe(t, one, tiers[a.N%len(tiers)])
	case moved:
		return l.move(t, one, tiers[a.N%len(tiers)])
	case leaves, leavesNow:
		return l.onLive(t, one, func(id string) error { return l.w.sim.CancelSubscription(id, a.Do == leaves) })
	case stays:
		return l.onLive(t, one, l.changeSubscription(url.Values{"cancel_at_period_end": {"false"}}))
	case paused:
		return l.onLive(t, one, l.changeSubscription(url.Values{"pause_collection[behavior]": {"void"}}))
	case resumed:
		return l.onLive(t, one, l.changeSubscription(url.Values{"pause_collection": {""}}))
	case cardFails:
		return word(l.w.sim.SetCard(one.customerID, stripesim.Card{Outcome: stripesim.Declines, Times: a.N % 4}))
	case cardWorks:
		return word(l.w.sim.SetCard(one.customerID, stripesim.Card{Outcome: stripesim.Succeeds}))
	case paysOpen:
		return l.payOpen(t, one)
	case planRefunded:
		invoices := list[stripeInvoice](t, l, "/v1/invoices?status=paid&limit=100&customer="+one.customerID)
		if len(invoices) == 0 {
			return "none"
		}
		_, err := l.w.sim.Refund(invoices[0].ID, 0)
		return word(err)
	case subscribesMore:
		return l.subscribeMore(t, one, tiers[a.N%len(tiers)])
	case disputeEnds:
		return l.endDispute(one, a.N%2 == 0)
	case topsUp, topUpRefunded, topUpDisputed:
		return l.topUps(t, one, a)
	case limits:
		return l.limit(t, one, a.N*10_000)
	case unlimited:
		return l.limit(t, one, nil)
	case nothing:
	}
	return "ok"
}

func word(err error) string {
	if err != nil {
		return "refused"
	}
	return "ok"
}

// subscribe goes through checkout, as far as it leads.
func (l *lifetimes) subscribe(t tester, one *life, tier string) string {
	status, answer := l.call("POST", "/v1/billing/checkout", checkout(tier), one.key)
	if status == http.StatusConflict {
		return "409"
	}
	require.Equal(t, http.StatusOK, status, string(answer))
	var s session
	require.NoError(t, json.Unmarshal(answer, &s))
	if strings.HasPrefix(s.SessionID, "cs_") {
		return "new " + word(l.w.sim.CompleteCheckout(s.SessionID))
	}
	page, err := url.Parse(s.URL)
	require.NoError(t, err)
	if form := l.scheduled(t, one); form != nil {
		status, answer = l.atStripe("POST", page.Path+"/keep", form)
		require.Equal(t, http.StatusSeeOther, status, string(answer))
		form.Set("price", l.priceID(t, tier))
		status, _ = l.atStripe("POST", page.Path+"/change", form)
		return fmt.Sprint("change of mind ", status)
	}
	status, _ = l.atStripe("POST", page.Path+"/confirm", nil)
	return fmt.Sprint("change ", status)
}

// scheduled names the subscription of which a change is scheduled, nil if there is none.
func (l *lifetimes) scheduled(t tester, one *life) url.Values {
	t.Helper()
	for _, s := range l.subscriptions(t, one) {
		if s.live() && s.Schedule != nil {
			return url.Values{"subscription": {s.ID}}
		}
	}
	return nil
}

func (l *lifetimes) priceID(t tester, tier string) string {
	t.Helper()
	return list[struct{ ID string }](t, l, "/v1/prices?lookup_keys[]=keymeter_"+tier+"_monthly")[0].ID
}

// move changes the plan in the Dashboard, which takes effect at once.
func (l *lifetimes) move(t tester, one *life, tier string) string {
	t.Helper()
	price := l.priceID(t, tier)
	type withItems struct {
		stripeSubscription
		Items struct{ Data []struct{ ID string } }
	}
	for _, s := range list[withItems](t, l, "/v1/subscriptions?status=all&limit=100&customer="+one.customerID) {
		if s.live() {
			return word(l.changeSubscription(url.Values{
				"items[0][id]": {s.Items.Data[0].ID}, "items[0][price]": {price}, "proration_behavior": {"always_invoice"},
			})(s.ID))
		}
	}
	return "none"
}

type stripeSubscription struct {
	ID, Status string
	Schedule   *string
}

func (s stripeSubscription) live() bool {
	return s.Status != "canceled" && s.Status != "incomplete_expired"
}

func (l *lifetimes) subscriptions(t tester, one *life) []stripeSubscription {
	t.Helper()
	return list[stripeSubscription](t, l, "/v1/subscriptions?status=all&limit=100&customer="+one.customerID)
}

func (l *lifetimes) onLive(t tester, one *life, do func(id string) error) string {
	t.Helper()
	for _, s := range l.subscriptions(t, one) {
		if s.live() {
			return word(do(s.ID))
		}
	}
	return "none"
}

func (l *lifetimes) changeSubscription(form url.Values) func(id string) error {
	return func(id string) error {
		if status, answer := l.atStripe("POST", "/v1/subscriptions/"+id, form); status != http.StatusOK {
			return fmt.Errorf("%d: %s", status, answer)
		}
		return nil
	}
}

func (l *lifetimes) payOpen(t tester, one *life) string {
	outcome := "none"
	for _, inv := range list[stripeInvoice](t, l, "/v1/invoices?status=open&limit=100&customer="+one.customerID) {
		status, _ := l.atStripe("POST", "/v1/invoices/"+inv.ID+"/pay", nil)
		outcome = fmt.Sprint(status)
	}
	return outcome
}

func (l *lifetimes) subscribeMore(t tester, one *life, tier string) string {
	status, _ := l.atStripe("POST", "/v1/subscriptions", url.Values{"customer": {one.customerID}, "items[0][price]": {l.priceID(t, tier)}})
	return fmt.Sprint(status)
}

func (l *lifetimes) topUps(t tester, one *life, a act) string {
	if a.Do == topsUp {
		return l.topUp(t, one, 5000+1000*a.N)
	}
	if len(one.topUps) == 0 {
		return "none"
	}
	payment := one.topUps[a.N%len(one.topUps)]
	if a.Do == topUpDisputed {
		id, err := l.w.sim.OpenDispute(payment)
		if err == nil {
			one.disputes = append(one.disputes, id)
		}
		return word(err)
	}
	_, err := l.w.sim.Refund(payment, int64(a.N*111)) // 0 is all of it
	return word(err)
}

func (l *lifetimes) endDispute(one *life, won bool) string {
	if len(one.disputes) == 0 {
		return "none"
	}
	err := l.w.sim.CloseDispute(one.disputes[0], won)
	one.disputes = one.disputes[1:]
	return word(err)
}

func (l *lifetimes) topUp(t tester, one *life, credits int) string {
	status, answer := l.call("POST", "/v1/billing/topup", topUp(int64(credits)), one.key)
	require.Equal(t, http.StatusOK, status, string(answer))
	var s session
	require.NoError(t, json.Unmarshal(answer, &s))
	if err := l.w.sim.CompleteCheckout(s.SessionID); err != nil {
		return "refused"
	}
	_, answer = l.atStripe("GET", "/v1/checkout/sessions/"+s.SessionID, nil)
	var paid struct {
		PaymentIntent string `json:"payment_intent"`
	}
	require.NoError(t, json.Unmarshal(answer, &paid))
	one.topUps = append(one.topUps, paid.PaymentIntent)
	one.model.bought += int64(credits)
	return "ok"
}

func (l *lifetimes) limit(t tester, one *life, credits any) string {
	status, answer := l.call("PUT", "/v1/billing/spend-limit", event{"overageCredits": credits}, one.key)
	require.Equal(t, http.StatusOK, status, string(answer))
	return "ok"
}

func (l *lifetimes) leaveForGood(t tester, one *life) {
	_ = l.w.sim.SetCard(one.customerID, stripesim.Card{Outcome: stripesim.Succeeds})
	for _, s := range l.subscriptions(t, one) {
		if s.live() {
			require.NoError(t, l.w.sim.CancelSubscription(s.ID, false))
		}
	}
}

// settle delivers what there is, reconciles, and waits until all that follows is done.
func (l *lifetimes) settle(t tester) {
	t.Helper()
	l.deliver(t)
	l.workedOff(t)
	_, err := l.w.app.Reconcile(context.Background())
	require.NoError(t, err)
	l.workedOff(t)
	for _, p := range l.pairs {
		l.twice(p, func(one *life) { l.observe(t, one) })
	}
}

// deliver brings the server the webhooks that there are, and those that come of doing so.
func (l *lifetimes) deliver(t tester) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	require.NoError(t, l.w.sim.WaitDelivered(ctx))
	for _, body := range l.deliveries.take() {
		req := httptest.NewRequest("POST", "/webhooks/stripe", strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Stripe-Signature", sign(webhookSecret, body, l.w.clock.Now()))
		res := httptest.NewRecorder()
		l.w.app.Handler().ServeHTTP(res, req)
		require.Equal(t, http.StatusOK, res.Code, res.Body.String())
	}
}

// workedOff waits until nothing is left to do. Stripe refuses nothing here, so that any failure is one.
func (l *lifetimes) workedOff(t tester) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		var left int
		var failure *string
		require.NoError(t, l.w.pool.QueryRow(context.Background(), `SELECT count(*), min(last_error) FROM (
			SELECT last_error FROM stripe_events WHERE handled_at IS NULL
			UNION ALL SELECT last_error FROM overage_bills WHERE state IN ('pending', 'parked')) AS open`).Scan(&left, &failure))
		switch {
		case failure != nil:
			t.Fatalf("work failed: %s", *failure)
		case left == 0:
			return
		case time.Now().After(deadline):
			t.Fatalf("%d pieces of work are not done", left)
		}
	}
}

// deliveries receives all webhooks, and decides what the server gets of them.
type deliveries struct {
	mu     sync.Mutex
	rand   *rand.Rand
	rough  map[string]bool // customers whose webhooks have a hard time
	queue  []delivery
	behind []string // some that come later, when nobody expects them any more
}

type delivery struct{ customerID, body string }

func (d *deliveries) begin(seed uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rand, d.rough, d.queue, d.behind = rand.New(rand.NewPCG(seed, 0)), map[string]bool{}, nil, nil
}

func (d *deliveries) roughen(customerID string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rough[customerID] = true
}

func (d *deliveries) ServeHTTP(_ http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	var e struct {
		Data struct{ Object struct{ Customer string } }
	}
	_ = json.Unmarshal(body, &e)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue = append(d.queue, delivery{e.Data.Object.Customer, string(body)})
}

// take returns what arrives now, in this order.
func (d *deliveries) take() (bodies []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var hard []string
	for _, one := range d.queue {
		if d.rough[one.customerID] {
			hard = append(hard, one.body)
		} else {
			bodies = append(bodies, one.body)
		}
	}
	d.queue = nil
	again := slices.Concat(hard, hard, d.behind)
	d.rand.Shuffle(len(again), func(i, j int) { again[i], again[j] = again[j], again[i] })
	again = again[:d.rand.IntN(len(again)+1)]
	d.behind = hard[:min(len(hard), 3)]
	return slices.Concat(bodies, again)
}
