-- Which offers are sent to which list, what they pay, and how many contacts they reach.
select
    lists.id as list_id,
    lists.list_name,
    offers.id as offer_id,
    offers.name as offer_name,
    offers.payout,
    lists.contact_count as reach
from {{ source('trackly', 'schedules') }} as schedules
cross join unnest(schedules.source_lists) as source_list (list_id)
cross join unnest(schedules.blasts) as variant (blast)
cross join jsonb_array_elements(variant.blast -> 'offer_links') as links (link)
inner join {{ source('trackly', 'lists') }} as lists on source_list.list_id = lists.id
inner join {{ source('trackly', 'offers') }} as offers on links.link ->> 'offer_id' = offers.id
where offers.status = 'active' and schedules.status <> 'archive'
group by lists.id, lists.list_name, offers.id, offers.name, offers.payout, lists.contact_count
