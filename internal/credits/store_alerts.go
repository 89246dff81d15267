package credits

import (
	"context"
	"time"

	"github.com/keymeter/keymeter/gen/queries"
)

func alertsOf(ctx context.Context, db queries.DBTX, b Balance) ([]Alert, error) {
	rows, err := queries.New(db).AlertsOfPeriod(ctx,
		queries.AlertsOfPeriodParams{AccountID: b.AccountID, Period: b.Period})
	alerts := make([]Alert, len(rows))
	for i, row := range rows {
		alerts[i] = Alert{Percent: row.Percent, Used: row.Used, Granted: row.Granted, RaisedAt: row.RaisedAt}
	}
	return alerts, err
}

func insertAlerts(ctx context.Context, db queries.DBTX, b Balance, percents []int16, now time.Time) error {
	return queries.New(db).InsertAlerts(ctx, queries.InsertAlertsParams{
		AccountID: b.AccountID, Period: b.Period, Percents: percents, Used: b.Used(), Granted: b.Granted, Now: now,
	})
}

func setAlertPercents(ctx context.Context, db queries.DBTX, accountID string, percents []int16) error {
	return queries.New(db).SetAlertPercents(ctx,
		queries.SetAlertPercentsParams{AccountID: accountID, AlertPercents: percents})
}

func setAlertAt(ctx context.Context, db queries.DBTX, b Balance, at *int64) error {
	return queries.New(db).SetAlertAt(ctx,
		queries.SetAlertAtParams{AccountID: b.AccountID, Period: b.Period, AlertAt: at})
}
