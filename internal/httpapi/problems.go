package httpapi

import (
	"context"

	"github.com/keymeter/keymeter/gen/api"
)

func (s *server) GetBillingProblems(
	ctx context.Context, _ api.GetBillingProblemsRequestObject,
) (api.GetBillingProblemsResponseObject, error) {
	problems, err := s.Billing.Problems(ctx)
	if err != nil {
		return nil, err
	}
	answer := api.GetBillingProblems200JSONResponse{
		Events: make([]api.FailingEvent, len(problems.Events)), Overage: make([]api.OpenOverage, len(problems.Bills)),
		FailingEvents: problems.FailingEvents, PendingOverage: problems.PendingOverage,
		ParkedOverage: problems.ParkedOverage, DuplicateSubscriptions: problems.Duplicates,
	}
	for i, e := range problems.Events {
		answer.Events[i] = api.FailingEvent{
			ID: e.ID, Type: e.Type, CustomerID: e.CustomerID, ReceivedAt: second(e.ReceivedAt), Attempts: int32(e.Attempts),
			NextAttemptAt: second(e.NextAttemptAt), Error: e.LastError,
		}
	}
	for i, bill := range problems.Bills {
		answer.Overage[i] = api.OpenOverage{
			ID: bill.OverageID, AccountID: bill.AccountID, SubscriptionID: optionalText(bill.SubscriptionID),
			PeriodStart: second(bill.StartsAt), PeriodEnd: second(bill.EndsAt), Credits: bill.Credits,
			AmountCents: bill.AmountCents, State: api.OverageState(bill.State), Attempts: int32(bill.Attempts),
			Error: optionalText(bill.LastError),
		}
	}
	return answer, nil
}

func (s *server) RetryOverage(ctx context.Context, r api.RetryOverageRequestObject) (api.RetryOverageResponseObject, error) {
	return api.RetryOverage204Response{}, s.Billing.RetryBill(ctx, r.OverageID)
}

func optionalText(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
