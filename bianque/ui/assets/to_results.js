() => setTimeout(() => {
  document.querySelectorAll('#bq-eval-preview details').forEach(fold => { fold.open = false; });
  const actions = document.querySelector('#bq-eval-actions');
  if (!actions) return;
  actions.style.scrollMarginTop = '72px';  // below what stays at the top of the window
  actions.scrollIntoView({ block: 'start' });
}, 50)
