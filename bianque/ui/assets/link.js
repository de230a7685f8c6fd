end => {
  if (!end) return end;
  const link = location.origin + location.pathname + end;
  navigator.clipboard?.writeText(link).catch(() => {});
  setTimeout(() => document.querySelector('#bq-link')?.scrollIntoView({ block: 'nearest' }), 100);
  return link;
}
