package stripesim

import (
	"net/http"
	"slices"
	"time"
)

// step is how far a button of the home page moves the time.
type step struct{ By, Name string }

type homeView struct {
	Now       time.Time
	Steps     []step
	Customers []customerView
}

type customerView struct {
	ID, Email, Name string
	Card            CardOutcome
	Balance         int64
	Subscriptions   []subscriptionView
	Invoices        []invoiceView
}

type invoiceView struct {
	ID, Number, Status, Reason string
	Total                      int64
	Created                    time.Time
	Next                       *time.Time
	Lines                      []line
}

// shownCustomers keeps the home page readable after a load test.
const shownCustomers = 50

func (s *Sim) showHome(w http.ResponseWriter, _ *http.Request) {
	view := homeView{Steps: []step{{"1h", "1 hour"}, {"1d", "1 day"}, {"1mo", "1 month"}}}
	err := s.change(func() error {
		view.Now = s.instant
		for _, cust := range slices.Backward(s.customers.items) {
			if len(view.Customers) < shownCustomers && !cust.Deleted {
				view.Customers = append(view.Customers, s.viewCustomer(cust))
			}
		}
		return nil
	})
	if err != nil {
		showError(w, err)
		return
	}
	show(w, http.StatusOK, "home", view)
}

func (s *Sim) viewCustomer(cust *customer) customerView {
	v := customerView{ID: cust.ID, Email: cust.Email, Name: cust.Name, Card: cust.Card.Outcome, Balance: cust.Balance}
	for _, sub := range slices.Backward(s.subscriptions.items) {
		if sub.Customer == cust.ID {
			v.Subscriptions = append(v.Subscriptions, subscriptionView{
				ID: sub.ID, Status: sub.Status, Price: viewPrice(sub.Price), PeriodEnd: sub.PeriodEnd,
				Ending: sub.CancelAtPeriodEnd, Over: sub.over(), Next: s.viewNext(sub),
			})
		}
	}
	for _, inv := range slices.Backward(s.invoices.items) {
		if inv.Customer == cust {
			v.Invoices = append(v.Invoices, viewInvoice(inv))
		}
	}
	return v
}

func viewInvoice(inv *invoice) invoiceView {
	v := invoiceView{
		ID: inv.ID, Number: inv.Number, Status: inv.Status, Reason: inv.Reason, Total: inv.total(), Created: inv.Created,
		Lines: slices.Clone(inv.Lines),
	}
	if due := inv.due(); !due.IsZero() {
		v.Next = &due
	}
	return v
}

func (s *Sim) postAdvance(w http.ResponseWriter, r *http.Request) {
	d, ok := s.stepOf(r.PostFormValue("by"))
	if !ok {
		showError(w, &pageError{http.StatusBadRequest, "The time advances by 1h, 36h, 1d or 1mo."})
		return
	}
	s.Advance(d)
	redirect(w, "/")
}

// stepOf reads a duration, or one of the steps that depend on the calendar.
func (s *Sim) stepOf(by string) (time.Duration, bool) {
	now := s.Now()
	switch by {
	case "1d":
		return 24 * time.Hour, true
	case "1mo":
		return addMonths(now, 1).Add(time.Second).Sub(now), true
	}
	d, err := time.ParseDuration(by)
	return d, err == nil && d >= 0
}
