package stripesim

// shownLines is how many lines Stripe puts into the invoice itself. The rest
// must be asked for.
const shownLines = 10

func renderLines(inv *invoice) []object {
	out := []object{}
	for _, l := range inv.Lines {
		out = append(out, renderLine(inv, l))
	}
	return out
}

func renderInvoice(inv *invoice) object {
	total, due := inv.total(), inv.amountDue()
	all := renderLines(inv)
	lines := listOf("/v1/invoices/"+inv.ID+"/lines", all[:min(len(all), shownLines)]...)
	lines["has_more"] = len(all) > shownLines
	var details, ending any
	if inv.Subscription != "" {
		details = object{"metadata": renderMetadata(inv.SubscriptionMetadata)}
	}
	if !inv.FinalizedAt.IsZero() {
		ending = inv.EndingBalance
	}
	return object{
		"id": inv.ID, "object": "invoice", "account_country": "US", "account_name": nil, "account_tax_ids": nil,
		"amount_due": due, "amount_overpaid": 0, "amount_paid": inv.AmountPaid, "amount_paid_off_stripe": 0,
		"amount_remaining": inv.remaining(), "amount_shipping": 0, "application": nil, "application_fee_amount": nil,
		"attempt_count": inv.Attempts, "attempted": inv.Attempted, "auto_advance": inv.AutoAdvance,
		"automatic_tax":  object{"enabled": false, "liability": nil, "status": nil},
		"billing_reason": inv.Reason, "charge": orNull(inv.Charge), "collection_method": "charge_automatically",
		"created": inv.Created.Unix(), "currency": currency, "custom_fields": nil, "customer": inv.Customer.ID,
		"customer_address": nil, "customer_email": orNull(inv.Customer.Email), "customer_name": orNull(inv.Customer.Name),
		"customer_phone": orNull(inv.Customer.Phone), "customer_shipping": nil, "customer_tax_exempt": "none",
		"customer_tax_ids": []any{}, "default_payment_method": nil, "default_source": nil, "default_tax_rates": []any{},
		"description": orNull(inv.Description), "discount": nil, "discounts": []any{}, "due_date": nil,
		"effective_at": unixOrNull(inv.FinalizedAt), "ending_balance": ending, "footer": nil, "from_invoice": nil,
		"hosted_invoice_url": nil, "invoice_pdf": nil, "issuer": object{"type": "self"}, "last_finalization_error": nil,
		"latest_revision": nil, "lines": lines, "livemode": false, "metadata": renderMetadata(inv.Metadata),
		"next_payment_attempt": unixOrNull(inv.due()), "number": orNull(inv.Number), "on_behalf_of": nil,
		"paid": inv.Status == invoicePaid, "paid_out_of_band": inv.PaidOutOfBand,
		"payment_intent": orNull(inv.PaymentIntent),
		"payment_settings": object{
			"default_mandate": nil, "payment_method_options": nil, "payment_method_types": nil,
		},
		"period_end": inv.PeriodEnd.Unix(), "period_start": inv.PeriodStart.Unix(),
		"post_payment_credit_notes_amount": 0, "pre_payment_credit_notes_amount": 0, "quote": nil, "receipt_number": nil,
		"rendering": nil, "shipping_cost": nil, "shipping_details": nil, "starting_balance": inv.StartingBalance,
		"statement_descriptor": nil, "status": inv.Status,
		"status_transitions": object{
			"finalized_at": unixOrNull(inv.FinalizedAt), "marked_uncollectible_at": unixOrNull(inv.GivenUpAt),
			"paid_at": unixOrNull(inv.PaidAt), "voided_at": unixOrNull(inv.VoidedAt),
		},
		"subscription": orNull(inv.Subscription), "subscription_details": details,
		"subtotal": total, "subtotal_excluding_tax": total, "tax": nil, "test_clock": nil, "total": total,
		"total_discount_amounts": []any{}, "total_excluding_tax": total, "total_tax_amounts": []any{},
		"transfer_data": nil, "webhooks_delivered_at": nil,
	}
}
