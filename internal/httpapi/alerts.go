package httpapi

import (
	"context"

	"github.com/keymeter/keymeter/gen/api"
	"github.com/keymeter/keymeter/internal/credits"
	"github.com/keymeter/keymeter/internal/postgres"
)

func (s *server) GetAlerts(ctx context.Context, _ api.GetAlertsRequestObject) (api.GetAlertsResponseObject, error) {
	found, err := s.alerts(ctx)
	return api.GetAlerts200JSONResponse{AlertsFoundJSONResponse: found}, err
}

func (s *server) SetAlerts(ctx context.Context, r api.SetAlertsRequestObject) (api.SetAlertsResponseObject, error) {
	var percents []int16
	if r.Body.Percents != nil {
		percents = make([]int16, len(r.Body.Percents))
		for i, p := range r.Body.Percents {
			percents[i] = int16(p)
		}
	}
	err := postgres.InTx(ctx, s.Pool, func(tx postgres.Tx) error {
		return s.Credits.SetAlertsTx(ctx, tx, principalOf(ctx).AccountID, percents)
	})
	if err != nil {
		return nil, err
	}
	found, err := s.alerts(ctx)
	return api.SetAlerts200JSONResponse{AlertsFoundJSONResponse: found}, err
}

func (s *server) alerts(ctx context.Context) (api.AlertsFoundJSONResponse, error) {
	raised, percents, err := s.Credits.Alerts(ctx, principalOf(ctx).AccountID)
	if err != nil {
		return api.AlertsFoundJSONResponse{}, err
	}
	a := api.AlertsFoundJSONResponse{Percents: make([]int32, len(percents)), Raised: make([]api.Alert, len(raised))}
	for i, p := range percents {
		a.Percents[i] = int32(p)
	}
	for i, r := range raised {
		a.Raised[i] = toAlert(r)
	}
	return a, nil
}

func toAlert(a credits.Alert) api.Alert {
	return api.Alert{Percent: int32(a.Percent), Used: a.Used, Limit: a.Granted, RaisedAt: second(a.RaisedAt)}
}
