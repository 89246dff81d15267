package stripesim

import "slices"

func (s *Sim) createInvoice(c *call) (object, *apiError) {
	cust, _ := s.customers.get(s.customerParam(c))
	sweep := c.oneOf("pending_invoice_items_behavior", "exclude", "include") == "include"
	advance, _ := c.boolean("auto_advance")
	c.onlyAutomatic()
	c.dollarsOnly("currency")
	metadata, sub := c.merge("metadata", nil), c.str("subscription")
	if found, ok := s.subscriptions.get(sub); sub != "" && (!ok || cust != nil && found.Customer != cust.ID) {
		c.fail(noSuch("subscription", sub, "subscription"))
	}
	if c.err != nil {
		return nil, c.err
	}
	inv := s.draft(cust, reasonManual)
	inv.Description, inv.Metadata, inv.Subscription = c.str("description"), metadata, sub
	if sub != "" {
		inv.Reason = reasonUpdate
	}
	if sweep { // one for a subscription takes nothing else
		s.sweep(inv, sub)
	}
	inv.setAdvance(advance, s)
	s.emit(c.cause, "invoice.created", renderInvoice(inv), nil)
	return renderInvoice(inv), nil
}

// setAdvance starts or stops the hour after which a draft is finalized.
func (inv *invoice) setAdvance(advance bool, s *Sim) {
	inv.AutoAdvance = advance
	if advance && inv.Status == invoiceDraft && inv.FinalizesAt.IsZero() {
		inv.FinalizesAt = s.instant.Add(draftTime)
	}
}

func (c *call) onlyAutomatic() {
	if c.oneOf("collection_method", "charge_automatically", "send_invoice") == "send_invoice" {
		c.fail(notSimulated("collection_method", "sending invoices"))
	}
}

func (s *Sim) getInvoice(c *call) (object, *apiError) {
	inv, err := s.invoiceOf(c)
	if err != nil {
		return nil, err
	}
	return renderInvoice(inv), nil
}

func (s *Sim) invoiceOf(c *call) (*invoice, *apiError) {
	inv, ok := s.invoices.get(c.id)
	if !ok {
		return nil, notFound("invoice", c.id)
	}
	return inv, nil
}

func (s *Sim) listInvoices(c *call) (object, *apiError) {
	cust, sub, created := s.customerFilter(c), c.str("subscription"), c.created()
	status := c.oneOf("status", invoiceDraft, invoiceOpen, invoicePaid, invoiceUncollectible, invoiceVoid)
	c.onlyAutomatic()
	return c.page(s.invoices.newest(func(inv *invoice) bool {
		return (cust == "" || inv.Customer.ID == cust) && (sub == "" || inv.Subscription == sub) &&
			(status == "" || inv.Status == status) && created.has(inv.Created)
	}, renderInvoice))
}

func (s *Sim) listLines(c *call) (object, *apiError) {
	inv, err := s.invoiceOf(c)
	if err != nil {
		return nil, err
	}
	return c.page(renderLines(inv))
}

func (s *Sim) updateInvoice(c *call) (object, *apiError) {
	inv, err := s.invoiceOf(c)
	if err != nil {
		return nil, err
	}
	next := *inv
	if c.has("description") {
		next.Description = c.str("description")
		if inv.Status != invoiceDraft {
			c.fail(invalidCode("invoice_not_editable", "description", "Finalized invoices can't be updated in this way"))
		}
	}
	next.Metadata = c.merge("metadata", next.Metadata)
	if advance, given := c.boolean("auto_advance"); given {
		if inv.Status != invoiceDraft && inv.Status != invoiceOpen {
			c.fail(invalid("auto_advance", "An invoice that is "+inv.Status+" does not advance."))
		}
		next.setAdvance(advance, s)
	}
	if c.err != nil {
		return nil, c.err
	}
	before := renderInvoice(inv)
	*inv = next
	s.emitUpdate(c.cause, "invoice.updated", before, renderInvoice(inv))
	return renderInvoice(inv), nil
}

func (s *Sim) finalizeInvoice(c *call) (object, *apiError) {
	inv, err := s.invoiceIn(c, "finalized", invoiceDraft)
	if err != nil {
		return nil, err
	}
	advance, given := c.boolean("auto_advance")
	if c.err != nil {
		return nil, c.err
	}
	if given {
		inv.AutoAdvance = advance
	}
	s.finalize(c.cause, inv)
	if inv.Status == invoiceOpen && inv.AutoAdvance {
		// Stripe tries an hour after finalization by hand; nobody waits for that here.
		inv.NextAttempt = s.instant.Add(draftTime)
	}
	return renderInvoice(inv), nil
}

func (s *Sim) payInvoice(c *call) (object, *apiError) {
	inv, err := s.invoiceIn(c, "paid", invoiceDraft, invoiceOpen, invoiceUncollectible)
	if err != nil {
		return nil, err
	}
	outOfBand, _ := c.boolean("paid_out_of_band")
	c.boolean("off_session")
	if c.err != nil {
		return nil, c.err
	}
	if inv.Status == invoiceDraft {
		s.finalize(c.cause, inv)
	}
	switch {
	case inv.Status == invoicePaid:
	case outOfBand:
		inv.PaidOutOfBand = true
		s.cancelIntent(c.cause, inv.PaymentIntent, "requested_by_customer")
		s.markPaid(c.cause, inv)
	default:
		if failure := s.collect(c.cause, inv, attempt{}); failure != nil {
			return nil, failure.ofInvoice()
		}
	}
	return renderInvoice(inv), nil
}

func (s *Sim) voidInvoice(c *call) (object, *apiError) {
	inv, err := s.invoiceIn(c, "voided", invoiceOpen, invoiceUncollectible)
	if err != nil {
		return nil, err
	}
	s.void(c.cause, inv)
	return renderInvoice(inv), nil
}

func (s *Sim) markUncollectible(c *call) (object, *apiError) {
	inv, err := s.invoiceIn(c, "marked uncollectible", invoiceOpen)
	if err != nil {
		return nil, err
	}
	s.giveUp(c.cause, inv)
	return renderInvoice(inv), nil
}

// invoiceIn finds the invoice if it is in a status from which the step can be taken.
func (s *Sim) invoiceIn(c *call, step string, statuses ...string) (*invoice, *apiError) {
	inv, err := s.invoiceOf(c)
	switch {
	case err != nil:
		return nil, err
	case slices.Contains(statuses, inv.Status):
		return inv, nil
	case inv.Status == invoicePaid && step == "paid":
		return nil, invalid("", "Invoice is already paid")
	case step == "finalized":
		return nil, invalidCode("invoice_not_editable", "", "This invoice is already finalized, you can't re-finalize a non-draft invoice.")
	}
	return nil, invalid("", "The invoice "+inv.ID+" is "+inv.Status+" and cannot be "+step+".")
}

// ofInvoice is the decline as POST /v1/invoices/{id}/pay tells it.
func (d *decline) ofInvoice() *apiError {
	e := d.cardError()
	if d.code == "authentication_required" {
		e.code, e.declineCode = "invoice_payment_intent_requires_action", ""
		e.kind, e.status = "invalid_request_error", 400
		e.message = "Invoice payment intent requires additional user action before completing payment."
	}
	return e
}
