package stripesim

func renderSubscription(sub *subscription) object {
	var cancelAt any
	if sub.CancelAtPeriodEnd {
		cancelAt = sub.PeriodEnd.Unix()
	}
	return object{
		"id": sub.ID, "object": "subscription", "application": nil, "application_fee_percent": nil,
		"automatic_tax": object{"enabled": false, "liability": nil}, "billing_cycle_anchor": sub.Anchor.Unix(),
		"billing_mode": object{"type": "classic"}, "billing_schedules": []any{}, "billing_thresholds": nil,
		"cancel_at": cancelAt, "cancel_at_period_end": sub.CancelAtPeriodEnd, "canceled_at": unixOrNull(sub.CanceledAt),
		"cancellation_details": object{
			"comment": orNull(sub.Comment), "feedback": orNull(sub.Feedback), "reason": orNull(sub.EndReason),
		},
		"collection_method": "charge_automatically", "created": sub.Created.Unix(), "currency": currency,
		"current_period_end": sub.PeriodEnd.Unix(), "current_period_start": sub.PeriodStart.Unix(),
		"customer": sub.Customer, "days_until_due": nil, "default_payment_method": nil, "default_source": nil,
		"default_tax_rates": []any{}, "description": orNull(sub.Description), "discount": nil, "discounts": []any{},
		"ended_at": unixOrNull(sub.EndedAt), "invoice_settings": object{"issuer": object{"type": "self"}},
		"items":          listOf("/v1/subscription_items?subscription="+sub.ID, renderItem(sub)),
		"latest_invoice": orNull(sub.LatestInvoice), "livemode": false, "metadata": renderMetadata(sub.Metadata),
		"next_pending_invoice_item_invoice": nil, "on_behalf_of": nil, "pause_collection": sub.renderPause(),
		"payment_settings": object{
			"payment_method_options": nil, "payment_method_types": nil, "save_default_payment_method": "off",
		},
		"pending_invoice_item_interval": nil, "pending_setup_intent": nil, "pending_update": sub.renderPending(),
		"schedule": orNull(sub.Schedule), "start_date": sub.Created.Unix(), "status": sub.Status, "test_clock": nil, "transfer_data": nil,
		"trial_end": unixOrNull(sub.TrialEnd),
		"trial_settings": object{
			"end_behavior": object{"missing_payment_method": firstOf(sub.NoCardBehavior, "create_invoice")},
		},
		"trial_start": unixOrNull(sub.TrialStart),
	}
}

func (sub *subscription) renderPause() any {
	if sub.Pause == "" {
		return nil
	}
	return object{"behavior": sub.Pause, "resumes_at": unixOrNull(sub.ResumesAt)}
}

func (sub *subscription) renderPending() any {
	if sub.Pending == nil {
		return nil
	}
	then := *sub
	then.Price, then.Quantity = sub.Pending.Price, sub.Pending.Quantity
	return object{
		"billing_cycle_anchor": nil, "expires_at": sub.Pending.ExpiresAt.Unix(),
		"subscription_items": []object{renderItem(&then)}, "trial_end": nil, "trial_from_plan": nil,
	}
}

func renderItem(sub *subscription) object {
	return object{
		"id": sub.ItemID, "object": "subscription_item", "billing_thresholds": nil, "created": sub.Created.Unix(),
		"current_period_end": sub.PeriodEnd.Unix(), "current_period_start": sub.PeriodStart.Unix(), "discounts": []any{},
		"metadata": object{}, "price": renderPrice(sub.Price), "quantity": sub.Quantity, "subscription": sub.ID,
		"tax_rates": []any{},
	}
}
