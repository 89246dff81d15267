package stripesim

import (
	"fmt"
	"time"
)

const (
	invoiceDraft         = "draft"
	invoiceOpen          = "open"
	invoicePaid          = "paid"
	invoiceVoid          = "void"
	invoiceUncollectible = "uncollectible"

	reasonCreate = "subscription_create"
	reasonCycle  = "subscription_cycle"
	reasonUpdate = "subscription_update"
	reasonManual = "manual"

	// draftTime is how long Stripe leaves a draft open for additions.
	draftTime = time.Hour
)

type invoice struct {
	ID          string
	Number      string // from finalization on
	Customer    *customer
	Created     time.Time
	Reason      string
	Description string
	Metadata    map[string]string
	PeriodStart time.Time
	PeriodEnd   time.Time
	// Lines hold what was sold as it was: a later plan change must not rewrite an
	// invoice.
	Lines []line

	Subscription         string
	SubscriptionMetadata map[string]string // as it was when the invoice was made

	Status          string
	AutoAdvance     bool
	Verdict         string    // what paused collection makes of it instead of collecting
	FinalizesAt     time.Time // a draft's, if it advances
	NextAttempt     time.Time // an open one's, if it is to be tried again
	Attempted       bool
	Attempts        int
	StartingBalance int64
	EndingBalance   int64 // from finalization on
	AmountPaid      int64
	PaidOutOfBand   bool
	PaymentIntent   string
	Charge          string

	FinalizedAt   time.Time
	PaidAt        time.Time
	VoidedAt      time.Time
	GivenUpAt     time.Time
	PendingUpdate bool // its payment is what a change of plan waits for
}

func (inv *invoice) key() string { return inv.ID }

// due is when the clock does something to the invoice; Stripe shows it as the
// next payment attempt, for a draft too.
func (inv *invoice) due() time.Time {
	switch {
	case inv.Status == invoiceDraft && inv.AutoAdvance:
		return inv.FinalizesAt
	case inv.Status == invoiceOpen && inv.AutoAdvance:
		return inv.NextAttempt
	}
	return time.Time{}
}

func (inv *invoice) total() int64 {
	var sum int64
	for _, l := range inv.Lines {
		sum += l.Amount
	}
	return sum
}

// amountDue is never negative: what the customer is owed stays on its balance.
func (inv *invoice) amountDue() int64 { return max(0, inv.total()+inv.StartingBalance) }

func (inv *invoice) remaining() int64 {
	if inv.PaidOutOfBand {
		return 0
	}
	return inv.amountDue() - inv.AmountPaid
}

// draft makes an empty invoice that does not advance by itself.
func (s *Sim) draft(cust *customer, reason string) *invoice {
	inv := &invoice{
		ID: s.ids.next("in_1", 23), Customer: cust, Created: s.instant, Reason: reason, Status: invoiceDraft,
		PeriodStart: s.instant, PeriodEnd: s.instant, StartingBalance: cust.Balance,
	}
	s.invoices.add(inv)
	return inv
}

// draftFor makes an invoice for a subscription out of what is pending for it.
func (s *Sim) draftFor(sub *subscription, reason string) *invoice {
	cust, _ := s.customers.get(sub.Customer)
	inv := s.draft(cust, reason)
	inv.Subscription, inv.SubscriptionMetadata = sub.ID, sub.Metadata
	s.sweep(inv, "", sub.ID)
	sub.LatestInvoice = inv.ID
	return inv
}

// bill drafts the invoice for the subscription's present period. The invoice's
// own period lies behind it and is empty for the first one; the line carries the
// period that is paid for.
func (s *Sim) bill(sub *subscription, reason string, behind time.Time) *invoice {
	inv := s.draftFor(sub, reason)
	inv.PeriodStart, inv.PeriodEnd = behind, sub.PeriodStart
	inv.Lines = append(inv.Lines, s.periodLine(sub))
	return inv
}

// settle takes an invoice from draft to its first payment in one instant, as
// Stripe does where somebody waits for it.
func (s *Sim) settle(by cause, inv *invoice, onSession bool) {
	s.finalize(by, inv)
	if inv.Status == invoiceOpen {
		s.collect(by, inv, attempt{automatic: true, onSession: onSession})
	}
}

// advanceInvoice does what an invoice's time has come for.
func (s *Sim) advanceInvoice(inv *invoice) {
	if inv.Status == invoiceDraft {
		s.finalize(cause{}, inv)
	}
	switch {
	case inv.Status != invoiceOpen:
	case inv.Verdict == invoiceVoid:
		s.void(cause{}, inv)
	case inv.Verdict == invoiceUncollectible:
		s.giveUp(cause{}, inv)
	default:
		s.collect(cause{}, inv, attempt{automatic: true})
	}
}

// finalize closes an invoice to changes. One with nothing to pay is paid by that.
func (s *Sim) finalize(by cause, inv *invoice) {
	cust := inv.Customer
	cust.Invoices++
	inv.Number = fmt.Sprintf("%s-%04d", cust.InvoicePrefix, cust.Invoices)
	inv.StartingBalance = cust.Balance
	inv.EndingBalance = min(0, inv.total()+cust.Balance)
	cust.Balance = inv.EndingBalance
	inv.Status, inv.FinalizedAt, inv.FinalizesAt = invoiceOpen, s.instant, time.Time{}
	if inv.amountDue() > 0 {
		s.intentFor(by, inv)
	}
	s.emit(by, "invoice.finalized", renderInvoice(inv), nil)
	if inv.amountDue() == 0 {
		inv.Attempted = true
		s.markPaid(by, inv)
	}
}

// markPaid sends both invoice.paid and its older twin, as Stripe does.
func (s *Sim) markPaid(by cause, inv *invoice) {
	inv.Status, inv.PaidAt, inv.AutoAdvance, inv.NextAttempt = invoicePaid, s.instant, false, time.Time{}
	s.emit(by, "invoice.paid", renderInvoice(inv), nil)
	s.emit(by, "invoice.payment_succeeded", renderInvoice(inv), nil)
	s.afterPayment(by, inv)
}

func (s *Sim) void(by cause, inv *invoice) {
	inv.Status, inv.VoidedAt, inv.AutoAdvance, inv.NextAttempt = invoiceVoid, s.instant, false, time.Time{}
	inv.Customer.Balance += inv.StartingBalance - inv.EndingBalance // what it took goes back
	s.cancelIntent(by, inv.PaymentIntent, "void_invoice")
	s.emit(by, "invoice.voided", renderInvoice(inv), nil)
	s.afterVoid(by, inv)
}

func (s *Sim) giveUp(by cause, inv *invoice) {
	inv.Status, inv.GivenUpAt, inv.AutoAdvance, inv.NextAttempt = invoiceUncollectible, s.instant, false, time.Time{}
	s.emit(by, "invoice.marked_uncollectible", renderInvoice(inv), nil)
}
