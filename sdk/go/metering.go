package keymeter

import (
	"context"
	"net/http"
	"slices"
)

// VerifyKey verifies a key, and spends.
//
// It tells whether a customer's key may be used, and durably spends what the request costs, in one call. A refusal is an
// answer, with Valid false and a Code, and has spent nothing. An error means that nothing is known: it is never a
// refusal. A cost without an EventID gets one, so that it counts once, however often it is tried.
//
// It is POST /v1/keys/verify.
func (c *Client) VerifyKey(ctx context.Context, body VerifyKeyRequest) (*VerifyKeyResult, error) {
	if body.Cost != nil && body.EventID == nil {
		body.EventID = Ptr(c.newID())
	}
	result, err := call[VerifyKeyResult](ctx, c, request{
		method:     http.MethodPost,
		path:       "/v1/keys/verify",
		body:       body,
		idempotent: true,
	})
	if err != nil {
		return nil, err
	}
	if result.Code == "" || result.Valid != (result.Code == VerifyCodeValid) {
		return nil, &Error{Status: http.StatusOK, Detail: "the answer is not a verdict"}
	}
	return result, nil
}

// RecordUsage records usage.
//
// The event is durable once it is answered and counts once: sent again with the same ID it answers as the first time,
// with Duplicate set. An event without an ID gets one. An event that does not fit under a hard cap is refused, with
// [ErrorCodeCreditsExhausted] or [ErrorCodeKeyLimitExceeded].
//
// It is POST /v1/usage/events.
func (c *Client) RecordUsage(ctx context.Context, event UsageEvent, options ...CallOption) (*UsageEventResult, error) {
	if event.ID == "" {
		event.ID = c.newID()
	}
	results, err := c.record(ctx, event, 1, options)
	if err != nil {
		return nil, err
	}
	return &results[0], nil
}

// RecordUsageBatch records up to 1,000 usage events.
//
// Each event has its own outcome, in the order sent, and one that is refused is not an error of the call: see
// [UsageEventResult.Err]. Events without an ID get one.
//
// It is POST /v1/usage/events.
func (c *Client) RecordUsageBatch(ctx context.Context, events []UsageEvent, options ...CallOption) ([]UsageEventResult, error) {
	events = slices.Clone(events)
	for i := range events {
		if events[i].ID == "" {
			events[i].ID = c.newID()
		}
	}
	return c.record(ctx, struct {
		Events []UsageEvent `json:"events"`
	}{events}, len(events), options)
}

// record sends events. Their ids make it safe to repeat, so they need no Idempotency-Key.
func (c *Client) record(ctx context.Context, body any, events int, options []CallOption) ([]UsageEventResult, error) {
	answer, err := call[UsageEventResults](ctx, c, request{
		method:     http.MethodPost,
		path:       "/v1/usage/events",
		body:       body,
		key:        givenKey(options),
		idempotent: true,
	})
	if err != nil {
		return nil, err
	}
	if len(answer.Results) != events {
		return nil, &Error{Status: http.StatusOK, Detail: "the answer does not have a result for each event"}
	}
	return answer.Results, nil
}
