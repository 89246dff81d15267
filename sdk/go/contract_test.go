package keymeter_test

import (
	"context"
	"errors"
	"iter"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/oapi-codegen/nullable"

	keymeter "github.com/keymeter/keymeter/sdk/go"
)

type operation struct{ id, method, path string }

// operations are those of the contract that are called by its users, and not by Stripe.
func operations(t *testing.T) []operation {
	t.Helper()
	contract, err := os.ReadFile("../../openapi.yaml")
	ok(t, err)
	var found []operation
	var at operation
	for line := range strings.Lines(string(contract)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "  /") && strings.HasSuffix(line, ":"):
			at.path = strings.Trim(line, " :")
		case regexp.MustCompile(`^    (get|put|post|patch|delete):$`).MatchString(line):
			at.method = strings.ToUpper(strings.Trim(line, " :"))
		case strings.HasPrefix(line, "      operationId: "):
			at.id = strings.TrimPrefix(line, "      operationId: ")
			if at.id != "receiveStripeEvent" {
				found = append(found, at)
			}
		}
	}
	if len(found) < 30 {
		t.Fatalf("found only %d operations in the contract", len(found))
	}
	return found
}

// Each operation has a method, and each list an iterator.
func TestClientHasEveryOperation(t *testing.T) {
	t.Parallel()
	client := reflect.TypeFor[*keymeter.Client]()
	for _, o := range operations(t) {
		name := strings.ToUpper(o.id[:1]) + o.id[1:]
		if _, found := client.MethodByName(name); !found {
			t.Errorf("Client has no method %s", name)
		}
		if list, isList := strings.CutPrefix(name, "List"); isList {
			if _, found := client.MethodByName(list); !found {
				t.Errorf("Client has no iterator %s", list)
			}
		}
	}
}

// Each operation is called once, and understood by the server.
func TestEveryOperation(t *testing.T) {
	t.Parallel()
	h := newHop(t)
	ctx := t.Context()
	reach(ctx, t, h)
	for _, o := range operations(t) {
		pattern := regexp.MustCompile("^" + regexp.MustCompile(`\{\w+\}`).ReplaceAllString(o.path, "[^/]+") + "$")
		reached := false
		for _, request := range h.requests() {
			reached = reached || (request.method == o.method && pattern.MatchString(request.path))
		}
		if !reached {
			t.Errorf("%s was not reached: %s %s", o.id, o.method, o.path)
		}
	}
	for _, request := range h.requests() {
		equal(t, "keymeter-go/"+keymeter.Version, request.header.Get("User-Agent"))
	}
}

func reach(ctx context.Context, t *testing.T, h *hop) {
	t.Helper()
	operator, service := h.operator(t), h.service(t)
	_, err := operator.GetHealth(ctx)
	ok(t, err)
	_, err = operator.GetReadiness(ctx)
	ok(t, err)

	externalID := "sdk." + time.Now().Format("150405.000000000")
	account, err := operator.CreateAccount(ctx, keymeter.CreateAccountRequest{Name: "Acme", ExternalID: &externalID})
	ok(t, err)
	_, err = operator.GetAccount(ctx, account.ID)
	ok(t, err)
	found, err := operator.ListAccounts(ctx, keymeter.ListAccountsParams{ExternalID: &externalID})
	ok(t, err)
	equal(t, account.ID, found.Data[0].ID)
	granted, err := operator.GrantCredits(ctx, account.ID, keymeter.GrantRequest{
		Kind: keymeter.GrantKindPromotional, Credits: 500, Reason: "Welcome", ExpiresAt: keymeter.Ptr(time.Now().Add(time.Hour)),
	})
	ok(t, err)
	equal(t, 3000, granted.Balance.Limit)
	limit, err := operator.SetAccountRateLimit(ctx, account.ID, keymeter.AccountRateLimit{
		RateLimit: &keymeter.RateLimit{Requests: 1000, WindowSeconds: 60},
	})
	ok(t, err)
	equal(t, 1000, limit.RateLimit.Requests)
	suspended, err := operator.SuspendAccount(ctx, account.ID)
	ok(t, err)
	equal(t, keymeter.AccountStatusSuspended, suspended.Status)
	_, err = operator.ResumeAccount(ctx, account.ID)
	ok(t, err)
	entries := collect(t, operator.Ledger(ctx, account.ID, keymeter.ListLedgerParams{Type: keymeter.Ptr(keymeter.LedgerEntryTypeGrant)}))
	equal(t, 2, len(entries))
	first, err := operator.CreateAccountKey(ctx, account.ID, keymeter.CreateKeyRequest{})
	ok(t, err)
	_, err = operator.GetBillingProblems(ctx)
	ok(t, err)
	if err = operator.RetryOverage(ctx, "ovg_none"); !keymeter.IsCode(err, keymeter.ErrorCodeOverageNotFound) {
		t.Fatal(err)
	}

	reachMetering(ctx, t, service, account, first)
	customer := h.client(t, first.Key)
	reachUsage(ctx, t, customer)
	reachBilling(ctx, t, customer)
	reachKeys(ctx, t, customer, first)
	account, err = operator.SetAccountTier(ctx, account.ID, keymeter.SetTierRequest{Tier: keymeter.TierScale})
	ok(t, err)
	equal(t, keymeter.TierScale, account.Tier)
}

func reachMetering(ctx context.Context, t *testing.T, service *keymeter.Client, account *keymeter.Account, key *keymeter.CreatedKey) {
	t.Helper()
	verdict, err := service.VerifyKey(ctx, keymeter.VerifyKeyRequest{
		Key: key.Key, Cost: &keymeter.Cost{Category: keymeter.CategoryTTS, Provider: keymeter.Ptr("cartesia"), Quantity: keymeter.Ptr[int64](1200)},
	})
	ok(t, err)
	equal(t, true, verdict.Valid)
	equal(t, 94, *verdict.Credits)
	odd := "an/odd?id#%2F.." // which is a segment of a path further on
	recorded, err := service.RecordUsage(ctx, keymeter.UsageEvent{ID: odd, KeyID: &key.ID, Category: keymeter.CategoryRAG, Quantity: keymeter.Ptr[int64](1)})
	ok(t, err)
	equal(t, 2, recorded.Credits)
	reversal, err := service.ReverseUsage(ctx, odd, keymeter.ReversalRequest{AccountID: account.ID})
	ok(t, err)
	equal(t, 2, reversal.Credits)
	results, err := service.RecordUsageBatch(ctx, []keymeter.UsageEvent{
		{AccountID: &account.ID, Category: keymeter.CategoryLLM, Credits: keymeter.Ptr[int64](1)},
		{AccountID: &account.ID, Category: keymeter.CategoryLLM, Credits: keymeter.Ptr[int64](100_000)},
	})
	ok(t, err)
	ok(t, results[0].Err())
	if !keymeter.IsCode(results[1].Err(), keymeter.ErrorCodeCreditsExhausted) {
		t.Fatal(results[1])
	}
	for _, end := range []string{"settle", "release"} {
		held, err := service.ReserveCredits(ctx, keymeter.ReserveRequest{EventID: end + key.ID, KeyID: &key.ID, Category: keymeter.CategoryLLM, Credits: 50})
		ok(t, err)
		if end == "settle" {
			settled, err := service.SettleReservation(ctx, held.ID, keymeter.SettleRequest{Credits: keymeter.Ptr[int64](7)})
			ok(t, err)
			equal(t, 7, settled.Credits)
			continue
		}
		released, err := service.ReleaseReservation(ctx, held.ID)
		ok(t, err)
		equal(t, keymeter.ReservationStateReleased, released.State)
	}
}

func reachUsage(ctx context.Context, t *testing.T, customer *keymeter.Client) {
	t.Helper()
	usage, err := customer.GetUsage(ctx)
	ok(t, err)
	equal(t, 94+1+7, usage.Credits.Used)
	events := collect(t, customer.UsageEvents(ctx, keymeter.ListUsageEventsParams{Category: keymeter.Ptr(keymeter.CategoryLLM)}))
	equal(t, 2, len(events))
	points, err := customer.GetUsageTimeseries(ctx, keymeter.GetUsageTimeseriesParams{
		From: keymeter.Ptr(time.Now().Add(-time.Hour)), Bucket: keymeter.Ptr(keymeter.UsageBucketHour),
	})
	ok(t, err)
	equal(t, true, len(points.Data) > 0)
	statement, err := customer.GetStatement(ctx, keymeter.GetStatementParams{})
	ok(t, err)
	equal(t, 3000-102, statement.Balance)
}

func reachBilling(ctx context.Context, t *testing.T, customer *keymeter.Client) {
	t.Helper()
	subscription, err := customer.GetSubscription(ctx)
	ok(t, err)
	equal(t, keymeter.TierFree, subscription.Tier)
	_, err = customer.SetAlerts(ctx, keymeter.AlertThresholds{Percents: []int32{1, 99}})
	ok(t, err)
	alerts, err := customer.GetAlerts(ctx)
	ok(t, err)
	equal(t, 1, len(alerts.Raised))
	_, err = customer.SetSpendLimit(ctx, keymeter.SpendLimit{OverageCredits: keymeter.Ptr[int64](1000)})
	ok(t, err)
	limit, err := customer.GetSpendLimit(ctx)
	ok(t, err)
	equal(t, 1000, *limit.OverageCredits)
	const back = "http://127.0.0.1/back"
	checkout, err := customer.CreateCheckoutSession(ctx, keymeter.CheckoutRequest{Tier: keymeter.PaidTierPro, SuccessURL: back, CancelURL: back})
	ok(t, err)
	equal(t, true, checkout.URL != "")
	topUp, err := customer.CreateTopUp(ctx, keymeter.TopUpRequest{Credits: 10_000, SuccessURL: back, CancelURL: back})
	if err == nil {
		equal(t, true, topUp.URL != "")
	} else if !keymeter.IsCode(err, keymeter.ErrorCodeTopUpsNotSold) { // as the catalogue has it
		t.Fatal(err)
	}
	portal, err := customer.CreatePortalSession(ctx, keymeter.PortalRequest{ReturnURL: keymeter.Ptr(back)})
	ok(t, err)
	equal(t, true, portal.URL != "")
}

func reachKeys(ctx context.Context, t *testing.T, customer *keymeter.Client, first *keymeter.CreatedKey) {
	t.Helper()
	second, err := customer.CreateKey(ctx, keymeter.CreateKeyRequest{Name: keymeter.Ptr("Second"), ExpiresInDays: keymeter.Ptr[int32](90)})
	ok(t, err)
	changed, err := customer.UpdateKey(ctx, second.ID, keymeter.UpdateKeyRequest{
		CreditLimit: nullable.NewNullableWithValue[int64](5), ExpiresAt: nullable.NewNullNullable[time.Time](),
	})
	ok(t, err)
	equal(t, 5, *changed.CreditLimit)
	equal(t, nil, changed.ExpiresAt)
	rotated, err := customer.RotateKey(ctx, second.ID, keymeter.RotateKeyRequest{})
	ok(t, err)
	got, err := customer.GetKey(ctx, rotated.ID)
	ok(t, err)
	equal(t, "Second", got.Name)
	ok(t, customer.RevokeKey(ctx, rotated.ID))
	keys := collect(t, customer.Keys(ctx, keymeter.ListKeysParams{}))
	equal(t, 1, len(keys))
	equal(t, first.ID, keys[0].ID)
}

func collect[T any](t *testing.T, all iter.Seq2[T, error]) []T {
	t.Helper()
	var found []T
	for v, err := range all {
		ok(t, err)
		found = append(found, v)
	}
	return found
}

// Iterators go through all pages, stop where the loop does, and end with an error.
func TestPages(t *testing.T) {
	t.Parallel()
	_, key := newCustomer(t, keymeter.CreateKeyRequest{})
	h := newHop(t)
	customer := h.client(t, key.Key, keymeter.WithRetries(0))
	for range 4 {
		_, err := customer.CreateKey(t.Context(), keymeter.CreateKeyRequest{})
		ok(t, err)
	}
	before := len(h.requests())
	ids := map[string]bool{}
	for _, k := range collect(t, customer.Keys(t.Context(), keymeter.ListKeysParams{Limit: keymeter.Ptr[int32](2)})) {
		ids[k.ID] = true
	}
	equal(t, 5, len(ids))
	equal(t, before+3, len(h.requests()))

	for _, err := range customer.Keys(t.Context(), keymeter.ListKeysParams{Limit: keymeter.Ptr[int32](2)}) {
		ok(t, err)
		break
	}
	equal(t, before+4, len(h.requests()))

	h.faults = []fault{nil, unavailable("1")}
	seen, failures := 0, 0
	for _, err := range customer.Keys(t.Context(), keymeter.ListKeysParams{Limit: keymeter.Ptr[int32](2)}) {
		if err == nil {
			seen++
			continue
		}
		failures++
		e := (*keymeter.Error)(nil)
		equal(t, true, errors.As(err, &e))
		equal(t, time.Second, e.RetryAfter)
	}
	equal(t, 2, seen)
	equal(t, 1, failures)
}
