package httpapi

import (
	"context"
	"encoding/json"

	"github.com/keymeter/keymeter/gen/api"
	"github.com/keymeter/keymeter/internal/credits"
	"github.com/keymeter/keymeter/internal/idempotency"
	"github.com/keymeter/keymeter/internal/plans"
)

func (s *server) GetUsage(ctx context.Context, _ api.GetUsageRequestObject) (api.GetUsageResponseObject, error) {
	b, err := s.Credits.Current(ctx, principalOf(ctx).AccountID)
	if err != nil {
		return nil, err
	}
	return api.GetUsage200JSONResponse{
		Credits:      toCredits(b),
		Breakdown:    api.UsageBreakdown{Tts: b.TTS, Stt: b.STT, Llm: b.LLM, Rag: b.RAG},
		RequestCount: b.Requests,
	}, nil
}

func (s *server) RecordUsage(ctx context.Context, r api.RecordUsageRequestObject) (api.RecordUsageResponseObject, error) {
	sent, single, err := readEvents(ctx)
	if err != nil {
		return nil, err
	}
	events := make([]credits.Event, len(sent))
	for i, e := range sent {
		events[i] = toEvent(e)
	}
	once := request(ctx, "recordUsage", r.Params.IdempotencyKey, sent)
	// Events are counted once by their ids, so that it does no harm to run them again.
	answer, err := idempotency.Do(ctx, s.Idempotency, once, func() (api.RecordUsage200JSONResponse, error) {
		outcomes, err := s.Credits.Spend(ctx, events)
		if err != nil {
			return api.RecordUsage200JSONResponse{}, err
		}
		if single && outcomes[0].Refusal != nil {
			return api.RecordUsage200JSONResponse{}, outcomes[0].Refusal
		}
		return api.RecordUsage200JSONResponse{Results: toResults(events, outcomes)}, nil
	})
	if err != nil {
		return nil, err
	}
	s.noteUsed(events, answer.Results)
	return answer, nil
}

// readEvents reads a single event or a batch. The body has been validated: it is one of the two.
func readEvents(ctx context.Context) (events []api.UsageEvent, single bool, err error) {
	if events := plainEvents(ctx); events != nil {
		return events, false, nil
	}
	body := rawBody(ctx)
	var batch struct {
		Events []api.UsageEvent `json:"events"`
	}
	if err := json.Unmarshal(body, &batch); err != nil {
		return nil, false, err
	}
	if batch.Events != nil {
		return batch.Events, false, nil
	}
	var event api.UsageEvent
	err = json.Unmarshal(body, &event)
	return []api.UsageEvent{event}, true, err
}

// noteUsed notes which keys services saw in use, and when.
func (s *server) noteUsed(events []credits.Event, results []api.UsageEventResult) {
	now := s.Now()
	for i, e := range events {
		if e.KeyID == "" || results[i].Status != api.UsageEventStatusRecorded {
			continue
		}
		at := now
		if e.OccurredAt != nil && e.OccurredAt.Before(now) {
			at = *e.OccurredAt
		}
		s.Keys.NoteUsed(e.KeyID, at)
	}
}

func toEvent(e api.UsageEvent) credits.Event {
	event := credits.Event{
		ID: e.ID, Category: plans.Category(e.Category), Credits: e.Credits, Quantity: e.Quantity, Output: e.OutputQuantity,
		OccurredAt: e.OccurredAt,
	}
	if e.AccountID != nil {
		event.AccountID = *e.AccountID
	}
	if e.KeyID != nil {
		event.KeyID = *e.KeyID
	}
	if e.Provider != nil {
		event.Provider = *e.Provider
	}
	if e.Byok != nil {
		event.BYOK = *e.Byok
	}
	return event
}

func toResults(events []credits.Event, outcomes []credits.Outcome) []api.UsageEventResult {
	results := make([]api.UsageEventResult, len(outcomes))
	for i, o := range outcomes {
		results[i] = api.UsageEventResult{
			ID: events[i].ID, Status: api.UsageEventStatusRecorded, Duplicate: o.Duplicate, Credits: o.Credits,
		}
		if o.Refusal != nil {
			code := api.ErrorCode(o.Refusal.Code)
			results[i].Status, results[i].Credits = api.UsageEventStatusRefused, 0
			results[i].Code, results[i].Detail = &code, &o.Refusal.Message
		}
	}
	return results
}
